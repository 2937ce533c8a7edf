"""Measure the speed and memory of models on this machine.

image              encoding, prompts and automatic mask generation on one image
video              seconds per frame by number of objects and by part, memory over time
app_latency        the server as a page uses it: hover, click, frames, tracking, memory
startup            from a command to its first mask
model_family       the models of the family in one table
sample_video       the synthetic video that is tracked
machine            the machine, its memory and its clock
roofline           what the machine can reach, and the lower bound this implies
flops              operations and bytes of a task
subprocess_runner  measuring in a separate process
record             a run as JSON
markdown_tables    a run as Markdown tables, two runs side by side
docs_tables        the tables of a page

`benchmarks/`, outside of the package, compares masklet with other programs.
"""
