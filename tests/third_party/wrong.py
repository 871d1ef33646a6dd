"""Mistakes that `mypy --strict` reports, each with the code of its error."""

import numpy as np

import innerloop
from innerloop import data, models
from innerloop.inner import Adam

net = models.Conv4(5)
maml = innerloop.MAML(net)
tasks = innerloop.SinusoidSampler()

innerloop.fit(maml, tasks, iteration=2)  # E: call-arg
innerloop.fit(maml, tasks, iterations="2")  # E: arg-type
innerloop.fit(maml, tasks, precision="half")  # E: arg-type
innerloop.fit(maml, 3)  # E: arg-type
innerloop.MAML(net, 0.1, "3")  # E: arg-type
innerloop.MAML(net, inner_step=3)  # E: call-arg
innerloop.MAML(net, chunk_sise=3)  # E: call-arg
innerloop.MAML(net, inner_optimizer="adam")  # E: arg-type
innerloop.ANIL(net, inner_steps="3")  # E: arg-type
innerloop.BOIL(net, chunk_size="3")  # E: arg-type
innerloop.ProtoNet(net, inner_max_norm=1.0)  # E: call-arg
innerloop.train(iteration=3)  # E: call-arg
innerloop.train(inputs="inkk")  # E: arg-type
innerloop.train(iterations="3")  # E: arg-type
innerloop.TrainConfig(n_wya=3)  # E: call-arg
innerloop.FewShotClassifier(inner_steps="3")  # E: arg-type
innerloop.FewShotClassifier.from_pretrained("omniglot-conv4", inks="dark")  # E: call-arg
data.from_arrays([[1.0]], [0], nam="x")  # E: call-arg
data.ImageClasses.from_square(np.zeros((2, 2, 1, 3, 3)), nam="x")  # E: call-arg
innerloop.EpisodeSampler(data.glyphs(), nway=3)  # E: call-arg
Adam(beta=0.9)  # E: call-arg
innerloop.Episodes(1, 2, 3, 4)  # E: arg-type
innerloop.register_algorithm("x", receipe={})  # E: call-overload
maml.adapt({}, None, None)  # E: arg-type
print(innerloop.load("x").weights)  # E: attr-defined
