"""Figures as the reports have them: small, in few colours, with letters that a phone can show.

palette -> the colours; panels, labels -> what a figure is filled with; figure -> SVG and PNG; svg -> its text in a file
and inside a page.
"""
