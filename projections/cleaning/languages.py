"""The fillers and stutters of each language; a language without tables keeps all its words.

Each table holds only safe words: one that is also an ordinary word, or is also said twice on purpose, is left out ("was
was", German "die die", French "nous nous").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_NONE: frozenset[str] = frozenset()


class Language(NamedTuple):
    """The tables of one language; all words in lower case, apostrophes straight.

    Attributes:
        code: Without region, such as "en"; empty if unknown.
        filler: Matches a whole word that says nothing.
        phrases: Two words that say nothing where commas set them off, "anywhere" or at a sentence's "start" alone.
        stuttered: Words of which a second one at once is a slip: no grammar puts them beside themselves.
        begun: Words of which it is one at a sentence's start alone ("it it was", but "I saw it it was").
        subjects: Pronouns that are taken back for their contraction ("I I'm").
        restarted: First words of phrases that are begun again ("we should we should go").
        linking: Words that make a repetition a figure of speech ("on and on and on", "step by step by step").
        numbers: Numbers in words: dictated ones repeat.
        unended: Words that end no sentence, so that one is not over without a full stop.
        dangling: Those of them that end none even where the recogniser put a full stop.
        lowered: Words with a small letter wherever a sentence doesn't begin with them.
        binding: Words that no comma follows, but for a filler.
        abbreviations: Words that end in a full stop which ends no sentence.
    """

    code: str = ""
    filler: re.Pattern[str] | None = None
    phrases: Mapping[str, tuple[str, str]] = {}
    stuttered: frozenset[str] = _NONE
    stuttered_at_start: frozenset[str] = _NONE
    subjects: frozenset[str] = _NONE
    restarted: frozenset[str] = _NONE
    linking: frozenset[str] = _NONE
    numbers: frozenset[str] = _NONE
    unended: frozenset[str] = _NONE
    dangling: frozenset[str] = _NONE
    lowered: frozenset[str] = _NONE
    binding: frozenset[str] = _NONE
    abbreviations: frozenset[str] = _NONE


def words_of(text: str) -> frozenset[str]:
    """The words of a table."""
    return frozenset(text.split())


# Each repetition in a pattern is of one character that the next part doesn't begin with: no backtracking to speak of.
_ENGLISH_STUTTERED = words_of(
    "a an the these those my your our their his its i we he she they i'm i've i'll i'd we're we've we'll you're you've "
    "you'll he's she's it's they're they've there's that's what's let's and but or if because of to for from with at "
    "in into about as which where when how been could would should might must don't doesn't didn't can't "
    "couldn't wouldn't won't isn't wasn't aren't just since gonna then than some any every"
) | {"who"}
_ENGLISH_STUTTERED_AT_START = words_of("it you this what do can are")
_ENGLISH_FUNCTION = _ENGLISH_STUTTERED | _ENGLISH_STUTTERED_AT_START | words_of(
    "is was were be am have has had does did on by not that so there"
)
_ENGLISH_DANGLING = words_of("a an the your our their every and")

_ENGLISH = Language(
    code="en",
    filler=re.compile(r"u+m+|u+h+m*|er+m+|er|hm+|mm+"),
    phrases={"you": ("know", "anywhere"), "i": ("mean", "start")},
    stuttered=_ENGLISH_STUTTERED,
    stuttered_at_start=_ENGLISH_STUTTERED_AT_START,
    subjects=words_of("i we he she they"),
    restarted=_ENGLISH_FUNCTION | words_of("will want think need let why maybe"),
    linking=words_of("and or by after for"),
    numbers=words_of(
        "oh zero nought one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
        "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand "
        "million double triple"
    ),
    unended=_ENGLISH_DANGLING | words_of("my his its of than because if or but is are was were with from very rather"),
    dangling=_ENGLISH_DANGLING,
    lowered=_ENGLISH_FUNCTION - words_of("i i'm i've i'll i'd might must") | words_of(
        "here up out all also only very more most"
    ),
    binding=_ENGLISH_FUNCTION - words_of("so there then") | words_of("me him us them very more most"),
    abbreviations=words_of("mr mrs ms dr prof st vs etc no inc ltd jr sr approx dept fig gen col lt sgt rev hon"),
)

_GERMAN_DANGLING = words_of("im am vom zum zur beim ins und")
_GERMAN_STUTTERED = _GERMAN_DANGLING | words_of(
    "ich wir er man oder aber dass weil wenn von bei für des ein eine einen einem eines mein meine meinen dein deine "
    "unser unsere auch dann"
)
_GERMAN = Language(
    code="de",
    filler=re.compile(r"äh+m*|öh+m*|hm+|mm+|ehm+"),
    stuttered=_GERMAN_STUTTERED,
    restarted=_GERMAN_STUTTERED | words_of("sie du es das der die was wie so mit in auf nach den dem ist hat kann"),
    linking=words_of("und oder um für"),
    numbers=words_of(
        "null eins ein zwei zwo drei vier fünf sechs sieben acht neun zehn elf zwölf zwanzig dreißig vierzig fünfzig "
        "sechzig siebzig achtzig neunzig hundert tausend"
    ),
    unended=_GERMAN_DANGLING | words_of("den dem dass weil wenn oder aber von sehr für"),
    dangling=_GERMAN_DANGLING,
    lowered=_GERMAN_STUTTERED | words_of("das der die wie was so es"),
    binding=_GERMAN_STUTTERED | words_of("das der die den dem sehr zu ist hat"),
    abbreviations=words_of("dr prof hr fr nr str bzw usw ca evtl ggf inkl tel st z d u"),
)

_FRENCH_DANGLING = words_of("les des du au aux et mon ma mes ses nos dans")
_FRENCH_STUTTERED = _FRENCH_DANGLING | words_of(
    "je j'ai tu il on ils c'est un une le ce cette ces mais ou que qui pour avec sur de à quand parce comme"
)
_FRENCH = Language(
    code="fr",
    filler=re.compile(r"euh+|heu+|hm+|hum|mm+"),
    stuttered=_FRENCH_STUTTERED,
    restarted=_FRENCH_STUTTERED | words_of("nous vous elle elles la si est"),
    linking=words_of("et ou par à"),
    numbers=words_of(
        "zéro un une deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize vingt "
        "trente quarante cinquante soixante cent mille"
    ),
    unended=_FRENCH_DANGLING | words_of("de que qui le ce très"),
    dangling=_FRENCH_DANGLING,
    lowered=_FRENCH_STUTTERED | words_of("nous vous elle elles la"),
    binding=_FRENCH_STUTTERED | words_of("la est très"),
    abbreviations=words_of("m mm dr pr st etc art cf ex"),
)

_SPANISH_DANGLING = words_of("del al los las y mis sus")
_SPANISH_STUTTERED = _SPANISH_DANGLING | words_of(
    "yo tú el un una unos unas en de a por con pero o que porque cuando lo se me te mi su"
)
_SPANISH = Language(
    code="es",
    filler=re.compile(r"eh+m+|ehh+|em+|hm+|mm+"),
    stuttered=_SPANISH_STUTTERED,
    restarted=_SPANISH_STUTTERED | words_of("la él ella nosotros ellos para si es"),
    linking=words_of("y o por a"),
    numbers=words_of(
        "cero uno un una dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince veinte "
        "treinta cuarenta cincuenta sesenta cien mil"
    ),
    unended=_SPANISH_DANGLING | words_of("de que el en con muy"),
    dangling=_SPANISH_DANGLING,
    lowered=_SPANISH_STUTTERED | words_of("la"),
    binding=_SPANISH_STUTTERED | words_of("la es muy"),
    abbreviations=words_of("sr sra srta dr dra ud uds etc"),
)

_LANGUAGES = {one.code: one for one in (
    _ENGLISH,
    _GERMAN,
    _FRENCH,
    _SPANISH,
    Language(code="it", filler=re.compile(r"ehm+|uhm+|hm+|mm+")),
    Language(code="nl", filler=re.compile(r"uh+m*|ehm+|hm+|mm+")),
    Language(code="pt", filler=re.compile(r"ehm+|hm+|hum|mm+")),
    Language(code="sv", filler=re.compile(r"öh+m*|ehm+|hm+|mm+")),
    Language(code="da", filler=re.compile(r"øh+m*|ehm+|hm+|mm+")),
    Language(code="no", filler=re.compile(r"øh+m*|ehm+|hm+|mm+")),
)}  # fmt: skip


def find_language(code: str) -> Language:
    """The tables of the language that a code such as "en" or "de-AT" names; empty ones for an unknown code."""
    base = code.replace("_", "-").partition("-")[0].casefold()
    return _LANGUAGES.get(base) or Language(code=base)
