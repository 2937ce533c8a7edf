"""The small parts that every network of the family is made of: tensors in, tensors out, no state."""
