"""The whole loop with the ten public names: clone, then explore, contrast, optimise, twice.

Two task types of ScienceWorld and the embedded model. Like the paper's algorithm it has no dev
checks, no guard against collapse and no resuming; `eto run` adds them.
"""

import eto

suite = eto.load_suite("scienceworld", kinds=["find-plant", "lifespan-longest-lived"])
train, dev = suite.tasks("train")[::4], suite.tasks("dev")[::4]
experts = eto.collect_experts(suite, train)

policy = eto.load_learner("embedded", name="sft")
eto.sft(policy, experts, eto.SftSettings(epochs=4, learning_rate=1e-4, batch_tokens=1000))
print(policy.name, eto.summarise(eto.rollouts(policy, suite, dev)).reward)

for iteration in (1, 2):
    explored = eto.rollouts(policy, suite, train)
    pairs = eto.contrast(experts, explored)
    if not pairs:
        break
    settings = eto.DpoSettings(epochs=1, learning_rate=5e-6, batch_size=8, sft_weight=0.2)
    eto.dpo(policy, pairs, settings)
    policy.name = f"eto-{iteration}"
    print(policy.name, eto.summarise(eto.rollouts(policy, suite, dev)).reward)

policy.save("my-agent")
