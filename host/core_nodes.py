"""The nodes of ComfyUI's core that our workflows use, under their ids: files in, previews and files out."""

import hashlib
import os
from pathlib import Path

from .shims import folder_paths, io, ui
from .shims.video import VideoCodec, VideoContainer


def _input_files(*kinds: str) -> list[str]:
    folder = folder_paths.get_input_directory()
    files = [f for f in os.listdir(folder) if os.path.isfile(os.path.join(folder, f))]
    return sorted(folder_paths.filter_files_content_types(files, list(kinds)))


def _digest(name: str) -> str:
    return hashlib.sha256(Path(folder_paths.get_annotated_filepath(name)).read_bytes()).hexdigest()


class LoadImage(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LoadImage",
            display_name="Load Image",
            category="image",
            inputs=[io.Combo.Input("image", options=_input_files("image"), upload=io.UploadType.image)],
            outputs=[io.Image.Output(), io.Mask.Output()],
        )

    @classmethod
    def execute(cls, image):
        import numpy as np
        import torch
        from PIL import Image, ImageOps

        with Image.open(folder_paths.get_annotated_filepath(image)) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode.startswith("I"):  # 16 bits a pixel
                picture = picture.point(lambda v: v / 257).convert("L")
            if "transparency" in picture.info:
                picture = picture.convert("RGBA")
            pixels = torch.from_numpy(np.array(picture.convert("RGB"))).float() / 255
            mask = torch.zeros(64, 64)
            if "A" in picture.getbands():
                mask = 1 - torch.from_numpy(np.array(picture.getchannel("A"))).float() / 255
        return io.NodeOutput(pixels[None], mask[None])

    @classmethod
    def fingerprint_inputs(cls, image):
        return _digest(image)

    @classmethod
    def validate_inputs(cls, image):
        return folder_paths.exists_annotated_filepath(image) or f"Invalid image file: {image}"


class LoadAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LoadAudio",
            display_name="Load Audio",
            category="audio",
            inputs=[io.Combo.Input("audio", options=_input_files("audio", "video"), upload=io.UploadType.audio)],
            outputs=[io.Audio.Output()],
        )

    @classmethod
    def execute(cls, audio):
        import av
        import torch

        with av.open(folder_paths.get_annotated_filepath(audio)) as container:
            if not container.streams.audio:
                raise ValueError(f"No audio stream found in {audio}")
            rate = container.streams.audio[0].rate
            to_float = av.AudioResampler(format="fltp")
            blocks = [out.to_ndarray() for frame in container.decode(audio=0) for out in to_float.resample(frame)]
        if not blocks:
            raise ValueError(f"No audio frames decoded from {audio}")
        waveform = torch.cat([torch.from_numpy(block) for block in blocks], dim=1)
        return io.NodeOutput({"waveform": waveform[None], "sample_rate": rate})

    @classmethod
    def fingerprint_inputs(cls, audio):
        return _digest(audio)

    @classmethod
    def validate_inputs(cls, audio):
        return folder_paths.exists_annotated_filepath(audio) or f"Invalid audio file: {audio}"


class PreviewImage(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PreviewImage",
            display_name="Preview Image",
            category="image",
            description="Shows the images without keeping them.",
            inputs=[io.Image.Input("images")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, images):
        return io.NodeOutput(ui=ui.PreviewImage(images, cls=cls))


class PreviewAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="PreviewAudio",
            display_name="Preview Audio",
            category="audio",
            inputs=[io.Audio.Input("audio")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, audio):
        return io.NodeOutput(ui=ui.PreviewAudio(audio, cls=cls))


class SaveVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SaveVideo",
            display_name="Save Video",
            category="image/video",
            description="Saves the video in the output folder.",
            inputs=[
                io.Video.Input("video", tooltip="The video to save."),
                io.String.Input("filename_prefix", default="video/ComfyUI", tooltip="Begin of the file name."),
                io.Combo.Input("format", options=VideoContainer, default="auto"),
                io.Combo.Input("codec", options=VideoCodec, default="auto"),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, video, filename_prefix, format, codec):
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory(), *video.get_dimensions()
        )
        file = f"{name}_{counter:05}_.mp4"
        metadata = {**(cls.hidden.extra_pnginfo or {}), "prompt": cls.hidden.prompt or {}}
        video.save_to(os.path.join(folder, file), format=format, codec=codec, metadata=metadata)
        return io.NodeOutput(ui=ui.PreviewVideo([ui.SavedResult(file, subfolder, io.FolderType.output)]))


NODES = [LoadImage, LoadAudio, PreviewImage, PreviewAudio, SaveVideo]
