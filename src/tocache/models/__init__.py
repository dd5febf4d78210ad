"""The model families: where their sub-layers are, what they cost, what was published for them."""
