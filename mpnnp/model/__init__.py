"""What a potential is: symmetry functions, scaling, nets, prediction and its accuracy."""
