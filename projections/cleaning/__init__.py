"""Makes a transcript readable: fillers and stutters out, sentences and paragraphs in. Pure; never adds a word.

docs/cleaning.md lists what it does and doesn't do, with examples.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from eventlog.readmodel.documents import ListedFinal
from projections.cleaning.fillers import remove_fillers
from projections.cleaning.languages import Language, find_language
from projections.cleaning.sentences import (
    capitalise_sentences,
    continues_sentence,
    end_sentence,
    is_all_capitals,
    join_sentences,
    lower_words,
)
from projections.cleaning.stutters import remove_stutters
from projections.cleaning.tokens import Token, join_tokens, split_words

DETECTED = "auto"
"""In place of a language's code: the recogniser detects the language of each utterance."""

PARAGRAPH_PAUSE_S = 1.4
"""Pause between two utterances from which on a paragraph ends. Utterances hold 0.3 s of the audio before and behind
them, so it is two seconds of silence: sentences of one thought mostly follow within one."""

_LABEL_OF_AUDIO = re.compile(r"speaker-[0-9a-f]{4}")
"""A label made of the audio, another for each utterance, which says nothing about the voice."""

_Said = tuple[ListedFinal, list[Token]]


def clean(finals: Sequence[ListedFinal], language: str) -> str:
    """The readable text of these utterances, in order; paragraphs are separated by an empty line.

    `language` is the code that the session was started with, such as "en", or "auto".
    """
    rules = find_language(spoken_language(finals, language))
    said = [(final, split_words(final.text, rules)) for final in finals]
    if is_all_capitals(token for _, tokens in said for token in tokens):
        for _, tokens in said:
            lower_words(tokens)
    said = [(final, kept) for final, tokens in said if (kept := remove_fillers(tokens, rules))]
    return "\n\n".join(join_tokens(_finish(tokens, rules)) for tokens in _paragraphs(said, rules))


def spoken_language(finals: Sequence[ListedFinal], asked: str) -> str:
    """The language of a transcript: the one asked for, or, if the recogniser was to detect it, that of most finals."""
    if asked not in {"", DETECTED}:
        return asked
    counts = Counter(final.language for final in finals if final.language)
    return counts.most_common(1)[0][0] if counts else asked


def _paragraphs(said: Sequence[_Said], language: Language) -> list[list[Token]]:
    lower: set[str] | None = None
    paragraphs: list[list[Token]] = []
    last: ListedFinal | None = None
    for final, tokens in said:
        if last is None or not _same_voice(last, final):
            paragraphs.append(tokens)
        elif continues_sentence(paragraphs[-1], tokens, language, soon=final.start - last.end < PARAGRAPH_PAUSE_S):
            lower = _lower_case_words(said) if lower is None else lower
            join_sentences(paragraphs[-1], tokens, language, lower)
        elif final.start - last.end < PARAGRAPH_PAUSE_S:
            end_sentence(paragraphs[-1], language)
            tokens[0].begins = True
            paragraphs[-1] += tokens
        else:
            paragraphs.append(tokens)
        last = final
    return paragraphs


def _lower_case_words(said: Sequence[_Said]) -> set[str]:
    return {token.core for _, tokens in said for token in tokens if token.core.islower()}


def _same_voice(one: ListedFinal, other: ListedFinal) -> bool:
    unknown = all(_LABEL_OF_AUDIO.fullmatch(final.speaker) for final in (one, other))
    return one.channel == other.channel and (unknown or one.speaker == other.speaker)


def _finish(tokens: list[Token], language: Language) -> list[Token]:
    kept = remove_stutters(tokens, language)
    end_sentence(kept, language)
    capitalise_sentences(kept, language)
    return kept
