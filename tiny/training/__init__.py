"""How the weights were trained: the stages, and the way from their files to those that ship and back."""
