"""The first step of a training."""

from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from lightning_seg.launch.derived import insert_class_weights
from lightning_seg.launch.resolved import resolved


def loss_of_first_step(composed: DictConfig) -> Tensor:
    """The loss of the first batch, after its gradient has been computed; optimizer and scheduler are built, too."""
    config = resolved(composed)
    datamodule = instantiate(config["data"])
    insert_class_weights(config, datamodule.class_weights)
    module = instantiate(config["module"])
    datamodule.setup("fit")
    image, mask = module.unpack(next(iter(datamodule.train_dataloader())))
    loss: Tensor = module.compute_loss(module(image), mask)
    loss.backward()
    module.scheduler_factory(module.optimizer_factory(module.parameter_groups()), 10)
    return loss
