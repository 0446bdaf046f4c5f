"""Files and words of RuNNer and n2p2, and export to the engines that read them."""
