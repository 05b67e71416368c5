"""Runs Presidio's pattern recognisers over the text on standard input; prints megabytes a second, once per round."""

import sys
import time
from unittest.mock import MagicMock

# Its language models are not asked, and the library that would run them is not installed.
for name in ("spacy", "spacy.tokens", "spacy.language", "spacy.lang", "spacy.util", "spacy.pipeline"):
    sys.modules[name] = MagicMock()

from presidio_analyzer import predefined_recognizers as p

NAMES = [
    "CreditCardRecognizer", "EmailRecognizer", "IbanRecognizer", "IpRecognizer", "UsSsnRecognizer", "NhsRecognizer",
    "UkNinoRecognizer", "EsNifRecognizer", "EsNieRecognizer", "ItFiscalCodeRecognizer", "PlPeselRecognizer",
    "InAadhaarRecognizer", "FiPersonalIdentityCodeRecognizer", "PhoneRecognizer",
]
recognisers = [getattr(p, name)() for name in NAMES if hasattr(p, name)]
text = sys.stdin.read()


def analyse():
    """Every recogniser over the whole text."""
    for recogniser in recognisers:
        recogniser.analyze(text=text, entities=recogniser.supported_entities, nlp_artifacts=None)


analyse()
for _ in range(int(sys.argv[1])):
    begin = time.process_time()
    analyse()
    print(len(text.encode()) / 1e6 / (time.process_time() - begin))
