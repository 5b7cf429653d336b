"""The whole loop with the ten public names: clone, then explore, contrast, optimise, twice.

Two task types of ScienceWorld and the embedded model. Like the paper's algorithm it has no dev
checks, no guard against collapse and no resuming; `eto run` adds them.
"""

import eto

suite = eto.load_suite("scienceworld", kinds=["find-plant", "lifespan-longest-lived"])
train, dev = suite.tasks("train")[::4], suite.tasks("dev")[::4]
experts = eto.collect_experts(suite, train)

learner = eto.load_learner("embedded")
eto.sft(learner, experts, eto.SftSettings(epochs=4, learning_rate=1e-4, batch_tokens=1000))
agent = learner.actor("sft")
print(agent.name, eto.summarise(eto.rollouts(agent, suite, dev)).reward)

for iteration in (1, 2):
    explored = eto.rollouts(agent, suite, train)
    pairs = eto.contrast(experts, explored)
    if not pairs:
        break
    settings = eto.DpoSettings(epochs=1, learning_rate=5e-6, batch_size=8, sft_weight=0.2)
    eto.dpo(learner, pairs, settings)
    agent = learner.actor(f"eto-{iteration}")
    print(agent.name, eto.summarise(eto.rollouts(agent, suite, dev)).reward)

learner.save("my-agent")
