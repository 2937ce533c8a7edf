"""Small building blocks that the networks share: tensors in, tensors out, no state."""
