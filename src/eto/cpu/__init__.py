"""Fast paths of a CPU: computations side by side on its cores, each with its own gradients."""
