"""Sinks: a video's results on disk while it is tracked, one frame at a time, in memory that does not grow.

base      what all sinks share, and their options
film      video: H.264 in MP4 with the masks painted on it and the sound of the source
audio     the sound of a film, cut to a span and copied
pictures  png, masks: a PNG a frame, or one an object and frame
journal   coco: JSON lines that survive a crash and can be read back
mots      mots: MOTS text
arrays    numpy: one npz
lines     a text file that keeps every whole line
overlap   what is lost where masks overlap, said once
"""
