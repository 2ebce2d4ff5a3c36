-- The group of workers that take shared utterances; it does not exist before the stream does.
local RECOGNISERS = 'recogniser'
