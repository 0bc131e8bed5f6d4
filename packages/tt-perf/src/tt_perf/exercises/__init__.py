"""The exercises of modules 14 to 19, as data beside them."""
