"""How fast models are on this machine, and how much memory they take.

image    encoding, prompts and everything on one picture
record   one run as JSON
compare  two runs side by side
limits   what the machine can do at best
machine  where something was measured
worker   measuring in a process of its own
family   the models of the family in one table
"""
