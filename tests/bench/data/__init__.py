# A package, so that its name is not that of `data.py`.
