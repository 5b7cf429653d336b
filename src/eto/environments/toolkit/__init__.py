"""What suites are built from, and the check of the contract they keep.

- `answers`: the action in an answer, thoughts left out
- `conformance`: the environment contract, checked by playing
- `options`: options checked against their suite's annotations
- `prompts`: two styles of answers, two lengths of instructions, experts' thoughts
- `ranges`: splits given as ranges of numbers
- `scoring`: one reward for an episode of many
- `suite`: bases of suites and environments: options, splits, call order
"""
