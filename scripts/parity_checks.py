"""How each output of a parity set is computed with our modules; scripts/parity.py compares. Shapes are the original's:
(batch, channels, frames, height, width) where ours are (batch, frames, channels, height, width)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from llia_core.model import ReferenceCache, audio_windows, build_reference_cache
from llia_core.model.guidance import AS_SHIPPED, CORRECTED, Quirks, guided_references
from llia_core.model.layers import timestep_features
from llia_core.photoreal.masks import FaceMasks, masks_from_points
from llia_core.sampling.ddim import ddim_step, guide
from llia_core.sampling.schedule import make_schedule, trailing_timesteps
from scripts.parity_vectors import KINDS, Setting, Vectors, flat, swap

GUIDANCE, STEPS = 3.5, 40
VARIANTS = {
    "asis": AS_SHIPPED,
    "fp32bank": replace(AS_SHIPPED, half_bank=False),
    "fixedemb": Quirks(mixed_rows=True),
    "aligned": CORRECTED,
}


# Components


def resnet(v: Vectors, size: str) -> Tensor:
    out = v.layer("resnets")(flat(v.given("resnet.in" + size)), torch.nn.functional.silu(v.given("resnet.temb")))
    return swap(out[None])


def motion(v: Vectors, size: str) -> Tensor:
    frames = flat(v.given("motion.in" + size))
    return swap(v.layer("motion_modules").temporal_transformer.bidirectional_forward(frames, batch=1)[None])


def audio_module(v: Vectors, size: str) -> Tensor:
    maps, tokens = flat(v.given("audio_module.in" + size)), v.given("audio_module.audio")[0]
    context = v.context(len(maps), audio_tokens=tokens, audio_masks=v.plain.masks)
    return swap(v.layer("audio_modules")(maps, context, 1)[None])


def audio_block(v: Vectors, plain: str) -> Tensor:
    tokens = v.given("audio_block.in")
    context = v.context(len(tokens), audio_tokens=v.given("audio_module.audio")[0])
    if plain:
        context.audio_scale = (1.0, 1.0, 1.0)
    return v.layer("audio_modules").transformer_blocks[0](tokens, context, v.plain.masks[1])


def spatial(v: Vectors) -> Tensor:
    maps, module = flat(v.given("spatial.in")), v.layer("attentions")
    cache = ReferenceCache(features=[v.given("spatial.bank")[:1]] * (module.index + 1))
    tokens = v.plain.tokens.expand(len(maps), -1, -1)
    return swap(module(maps, v.context(len(maps), image_tokens=tokens, reference=cache))[None])


def spatial_guided(v: Vectors) -> Tensor:
    """Frames of the conditional half read the portrait rows of both halves in turn (quirk 3); the other reads none."""
    module, given, tokens = v.layer("attentions"), v.given("spatial.in_cfg"), v.given("spatial.ehs_cfg")
    frames, bank = given.shape[2], v.given("spatial.bank_cfg")
    portrait = bank.unflatten(0, (2, -1))[:, 0]
    keys, values = module.transformer_blocks[0].project_reference(portrait)
    picks = [(frames + f) % 2 for f in range(frames)]
    caches = [None, ReferenceCache(*([x[picks]] * (module.index + 1) for x in (keys, values)))]
    halves = [
        module(flat(given[k : k + 1]), v.context(frames, image_tokens=tokens[k].expand(frames, -1, -1), reference=c))
        for k, c in enumerate(caches)
    ]
    return swap(torch.stack(halves))


def motion_features(v: Vectors, guided: str) -> Tensor:
    return v.given("spatial.bank" + guided).unflatten(0, (2 if guided else 1, -1))[:, 1:]


def bank(v: Vectors, guided: str, block: str) -> Tensor:
    net, latents = v.model.reference_unet, v.given("ref.latents")
    rows = len(latents)
    tokens = torch.cat([v.plain.zero_tokens, v.plain.tokens]).repeat(rows, 1, 1) if guided else v.plain.tokens
    tokens = tokens if guided else tokens.expand(rows, -1, -1)
    features, _ = net(latents.repeat(2 if guided else 1, 1, 1, 1), tokens)
    return features[net.get_submodule(block).index]


def reference_output(v: Vectors) -> Tensor:
    latents = v.given("ref.latents")
    return v.model.reference_unet(latents, v.plain.tokens.expand(len(latents), -1, -1), complete=True)[1]


def face_region(v: Vectors) -> Tensor:
    return v.plain.face[:, :, None].expand(-1, -1, v.io["out:face_region.out"].shape[2], -1, -1)


def interpolate(v: Vectors, frames: str) -> Tensor:
    from llia_core.speech import resample_features

    return resample_features(v.given("interp.in").transpose(1, 2), int(frames)).transpose(1, 2)


def mask(v: Vectors, case: str, kind: str, level: str) -> Tensor:
    return _masks(v, case).levels[int(level)][:, KINDS.index(kind)]


def mask_region(v: Vectors, case: str, step: str) -> Tensor:
    every = int(step)
    return (_masks(v, case).region[:1] * 255).round().to(torch.uint8)[:, ::every, ::every]


def _masks(v: Vectors, case: str) -> FaceMasks:
    if case not in v.masks_made:
        height, width, size, expand = v.given(f"maskprep.{case}.height_width_imgsize_ratio").tolist()
        outline, lips = (v.given(f"maskprep.{case}.{k}_points").numpy() for k in ("silhouette", "lip"))
        expand = round(expand, 5)  # it was stored in single precision
        v.masks_made[case] = masks_from_points(outline, lips, int(height), int(width), int(size), expand)
    return v.masks_made[case]


# The denoising UNet


def denoiser(v: Vectors, t: str, variant: str) -> Tensor:
    setting, latents = v.plain, v.given("unet.latents")
    if variant == ".scale1":
        return setting.denoise(latents, int(t), audio_scale=(1.0, 1.0, 1.0))
    if variant == ".bank16":
        return setting.denoise(latents, int(t), reference=half_bank(setting))
    if variant == ".evalpath":
        with evaluation_path(v.model.denoising_unet):
            return setting.denoise(latents, int(t))
    return setting.denoise(latents, int(t))


def half_bank(setting: Setting) -> ReferenceCache:
    portrait, motion = setting.latents
    net = setting.model
    cache = build_reference_cache(net.reference_unet, net.denoising_unet, portrait, setting.tokens, motion, False)
    return cache.to(torch.float16).to(torch.float32)


@contextmanager
def evaluation_path(unet: torch.nn.Module) -> Iterator[None]:
    """The original's other branch, for diagnosis: idle modules run, only the middle has motion frames and scales."""

    def without(_: object, given: tuple) -> tuple:
        x, context, *rest = given
        return (x, replace(context, motion=None, audio_scale=(1.0, 1.0, 1.0)), *rest)

    blocks = [*unet.down_blocks, *unet.up_blocks]
    idle = [block for block in blocks if block.motion_idle]
    hooks = [block.register_forward_pre_hook(without) for block in blocks]
    for block in idle:
        block.motion_idle = False
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for block in idle:
            block.motion_idle = True


def activation(v: Vectors, t: str, block: str) -> Tensor:
    seen: list[Tensor] = []
    hook = v.model.denoising_unet.get_submodule(block).register_forward_hook(lambda m, a, out: seen.append(out))
    v.plain.denoise(v.given("unet.latents"), int(t))
    hook.remove()
    return swap(seen[0][None])


def guided_run(v: Vectors, variant: str, steps: int, count: int) -> tuple[Tensor, list[Tensor]]:
    """Both halves' first prediction, and the latents after each of `count` steps of a run with `steps`."""
    have = v.runs.get((variant, steps))
    if have and len(have[1]) >= count:
        return have
    net, setting, latents = v.model, v.plain, v.io["out:pipe.noise"]
    portrait, motion_latents = setting.latents
    tokens = torch.cat([setting.zero_tokens, setting.tokens])
    caches = guided_references(
        net.reference_unet, net.denoising_unet, portrait, motion_latents, tokens, latents.shape[2], VARIANTS[variant]
    )
    absent = dict(
        audio_tokens=torch.zeros_like(setting.audio), face_feature=torch.zeros_like(setting.face),
        image_tokens=setting.zero_tokens, reference=caches[0],
    )  # fmt: skip
    first, after = None, []
    for t in trailing_timesteps(steps)[:count]:
        halves = [setting.denoise(latents, t, **absent), setting.denoise(latents, t, reference=caches[1])]
        first = torch.cat(halves) if first is None else first
        latents, _ = ddim_step(
            guide(*halves, GUIDANCE), latents, t, t - 1000 // steps, v.schedule, v.model.config.prediction_type
        )
        after.append(latents)
    v.runs[variant, steps] = first, after
    return first, after


def pipeline_latents(v: Vectors, variant: str, four: str, step: str) -> Tensor:
    prefix, steps = f"out:pipe.{variant}.{four or ''}latents", 4 if four else STEPS
    count = max(int(name.removeprefix(prefix)) for name in v.io if name.startswith(prefix))
    return guided_run(v, variant, steps, count)[1][int(step) - 1]


def pipeline_noise(v: Vectors) -> Tensor:
    generator = torch.Generator().manual_seed(int(v.given("pipe.noise_seed")))
    return torch.randn(v.io["out:pipe.noise"].shape, generator=generator)


def scheduler_step(v: Vectors, t: int, stride: int, what: int = 0) -> Tensor:
    return ddim_step(v.given("step.v"), v.given("step.sample"), t, t - stride, v.schedule, "v_prediction")[what]


def step30(v: Vectors) -> int:
    return trailing_timesteps(30)[7]


def _times(steps: int) -> Tensor:
    return torch.tensor(trailing_timesteps(steps))


CHECKS: list[tuple[str, Callable[..., Tensor]]] = [
    (r"resnet\.out(?P<size>(_small)?)", resnet),
    (r"motion\.out(?P<size>(_small)?)", motion),
    (r"audio_module\.out(?P<size>(_small)?)", audio_module),
    (r"audio_block\.out(?P<plain>(_noscale)?)", audio_block),
    (r"audio_window\.out", lambda v: audio_windows(v.given("audio_window.in"), v.config["audio"]["seq_len"])),
    (r"audioproj\.out", lambda v: v.plain.audio),
    (r"imageproj\.out", lambda v: v.plain.tokens),
    (r"imageproj\.out_zero", lambda v: v.plain.zero_tokens),
    (r"face_locator\.out", lambda v: swap(v.model.face_locator(flat(v.given("face_locator.in")))[None])),
    (r"face_region\.out", face_region),
    (r"spatial\.out", spatial),
    (r"spatial\.out_cfg", spatial_guided),
    (r"spatial\.motion(?P<guided>(_cfg)?)", motion_features),
    (r"bank(?P<guided>(_cfg)?)\.(?P<block>.+)", bank),
    (r"ref\.out", reference_output),
    (r"interp\.out(?P<frames>\d+)", interpolate),
    (r"maskprep\.(?P<case>\w+)\.(?P<kind>full|face|lip)\.(?P<level>\d)", mask),
    (r"maskprep\.(?P<case>\w+)\.face_region_u8_every(?P<step>\d+)th", mask_region),
    (r"unet\.out\.t(?P<t>\d+)(?P<variant>(\.(scale1|bank16|evalpath))?)", denoiser),
    (r"unet\.act\.t(?P<t>\d+)\.(?P<block>.+)", activation),
    (r"nonsq\.unet\.out\.t(?P<t>\d+)", lambda v, t: v.wide.denoise(v.wide.given("unet.latents"), int(t))),
    (r"pipe\.noise", pipeline_noise),
    (r"pipe\.t", lambda v: _times(STEPS)[: len(v.io["out:pipe.t"])]),
    (r"pipe\.\w+\.four_steps\.t", lambda v: _times(4)),
    (r"pipe\.(?P<variant>\w+)\.step0\.pred", lambda v, variant: guided_run(v, variant, STEPS, 1)[0]),
    (r"pipe\.(?P<variant>\w+)\.(?P<four>(four_steps\.)?)latents(?P<step>\d+)", pipeline_latents),
    (r"sched\.timesteps\.(?P<n>\d+)", lambda v, n: _times(int(n))),
    (r"sched\.betas", lambda v: v.schedule.betas),
    (r"sched\.alphas_cumprod", lambda v: v.schedule.alphas_cumprod),
    (r"sched\.final_alpha_cumprod", lambda v: torch.ones(())),  # ddim_step gives the clean sample below timestep 0
    (r"sched_train\.alphas_cumprod", lambda v: make_schedule("scaled_linear").alphas_cumprod),
    (r"step\.out\.t(?P<t>\d+)", lambda v, t: scheduler_step(v, int(t), 1000 // STEPS)),
    (r"step\.x0\.t(?P<t>\d+)", lambda v, t: scheduler_step(v, int(t), 1000 // STEPS, 1)),
    (r"step30\.out", lambda v: scheduler_step(v, step30(v), 1000 // 30)),
    (r"step30\.t", lambda v: torch.tensor(step30(v))),
    (r"time\.sinusoid", lambda v: timestep_features(v.given("time.t"), v.config["block_out_channels"][0])),
    (r"time\.emb", lambda v: v.model.denoising_unet.embed_time(v.given("time.t"), torch.float32)),
]
