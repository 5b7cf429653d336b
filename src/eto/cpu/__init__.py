"""Fast paths of a CPU behind engines and training: each computes what the plain path does, sooner.

- `branch_attention`: attention along the branches of trees, many in a row
- `core_groups`: computations side by side, each on its own cores
- `packed_linear`: weights packed for products with few rows
- `recomputed`: norms and gated products, computed again in the backward pass
- `replicas`: one model per group of cores: shared weights, fp32 gradients
- `turns`: in which order lanes add to one sum
- `weight_gradients`: gradients of weight matrices, summed where they arise
"""
