"""The page explore.html: embeddings of the three limits side by side, to hover, search, compare.

`page.py` is the stage. `choose.py` picks runs and words, `cosines.py` and `groups.py` prepare what
the page shows, `figures.py` lays the figures out with Bokeh, and static/ holds the page's own
JavaScript and style.
"""
