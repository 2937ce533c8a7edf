"""How fast models are on this machine, and how much memory they take.

image         encoding, prompts and everything on one image
video          the video that everybody follows
video         seconds a frame by number of objects and by part, memory by length
startup       from a command to its first mask
record        one run as JSON
tables        one run in Markdown
page          runs in a page
compare       two runs side by side
limits        what the machine can do at best, and what that means for what has to be done
operations    what has to be done
machine       where something was measured
worker        measuring in a process of its own
family        the models of the family in one table
rows          what stands in it
programs      programs to compare with, each in a process of its own (adapters/ is the half that runs there)
turns         they take turns, and what they found is compared
weights       weights that follow from the names of tensors
forms         the same in the form that each program opens
beside        one image and its prompts in several programs
everything    everything in an image in several programs
following     objects followed by several programs
environments  programs to compare with, each in a Python environment of its own
"""
