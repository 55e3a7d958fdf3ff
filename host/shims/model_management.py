"""comfy.model_management: devices and cancelling."""

from ..runtime import InterruptProcessingException, throw_if_interrupted

__all__ = ["InterruptProcessingException"]


def get_torch_device():
    """The torch device that models run on: the first GPU, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def unet_offload_device():
    """Where weights wait until they are used."""
    import torch

    return torch.device("cpu")


def load_models_gpu(models, memory_required: int = 0, force_full_load: bool = False) -> None:
    """Moves models to the device where they compute; none is moved back."""
    for patcher in models:
        patcher.model.to(patcher.load_device)


def throw_exception_if_processing_interrupted() -> None:
    throw_if_interrupted()
