-- The group of workers that take utterances from `recognise`, and no group where there is no stream yet.
local RECOGNISERS = 'recogniser'
