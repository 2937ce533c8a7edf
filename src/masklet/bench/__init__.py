"""How fast models are on this machine, and how much memory they take.

family  the models of the family in one table
"""
