"""comfy.model_patcher: a model and where it computes."""


class ModelPatcher:
    def __init__(self, model, load_device, offload_device, size: int = 0, weight_inplace_update: bool = False) -> None:
        self.model, self.load_device, self.offload_device = model, load_device, offload_device
