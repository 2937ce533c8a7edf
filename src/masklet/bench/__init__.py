"""How fast models are on this machine, and how much memory they take.

image    encoding, prompts and everything on one picture
video    seconds a frame by number of objects, memory by length
startup  from a command to its first mask
record   one run as JSON
compare  two runs side by side
limits   what the machine can do at best
machine  where something was measured
worker   measuring in a process of its own
family   the models of the family in one table
"""
