"""The page of `innerloop demo`: draw a few symbols, and watch a network learn them.

`questions.py` says what may be asked, `answers.py` answers with `FewShotClassifier` alone, and
`server.py` carries both over HTTP.  `static/` is the page.
"""
