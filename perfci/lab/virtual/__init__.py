"""The virtual lab: simulated machines behind simulated BMCs, for a developer who has no hardware.

It stands as if it were a package of its own. Others import `lab` (make, look at, spoil and remove it), `plan`
(what is wanted) and nothing else of it; it imports the types of errors and `validation`, and nothing else of
perfci. import-linter keeps both.
"""
