"""SDASPipeline: diffusers' habits, the images of a run, and folders that every command takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sia_gen import load_model
from sia_gen.core.errors import UserError
from sia_gen.core.store.shards import ShardReader, find_shards
from sia_gen.diffusion.generator import load_generator
from sia_gen.diffusion.model_folder import describe, find_model
from sia_gen.diffusion.pipeline import SDASPipeline
from sia_gen.diffusion.sampling import image_generators
from sia_gen.generate.contents import images
from sia_gen.generate.options import ExecutionOptions, RunOptions
from sia_gen.generate.run import run


@pytest.fixture(scope="module")
def pipe() -> SDASPipeline:
    return SDASPipeline.from_pretrained("textures-64")


def test_images_are_those_of_the_generator(pipe: SDASPipeline) -> None:
    labels, strengths, seeds = ["grass", "brick", "grass"], [0.0, 0.2, 0.1], [11, 12, 13]
    generators = image_generators(seeds)
    found = pipe(labels, strength=strengths, generator=generators, output_type="np").images
    alone = load_generator(find_model("textures-64"))
    for name, at in {"grass": [0, 2], "brick": [1]}.items():
        expected = alone.images(name, [seeds[i] for i in at], [strengths[i] for i in at])
        np.testing.assert_array_equal(np.rint(found[at] * 255).astype(np.uint8), expected)


def test_the_python_door_takes_the_models_own_steps_and_sampler() -> None:
    model = load_model("textures-64", precision="fp32")
    asked = load_model("textures-64", precision="fp32", steps=20, sampler="dpmpp-2m-sde")
    own, named = (one.images("brick", [3], [0.1]) for one in (model, asked))
    np.testing.assert_array_equal(own, named)


def test_images_are_those_of_a_run(pipe: SDASPipeline, tmp_path: Path) -> None:
    asked = RunOptions(out=str(tmp_path), data="textures", categories="gravel", per_category=3)
    run(images.prepare(asked), ExecutionOptions(executor="local", device="cpu"))
    reader = ShardReader(find_shards(tmp_path))
    facts = [reader.metadata(i) for i in range(3)]
    found = pipe(
        [f["category"] for f in facts],
        strength=[f["strength"] for f in facts],
        generator=image_generators([f["seed"] for f in facts]),
        output_type="np",
    ).images
    expected = np.stack([reader.image(i) for i in range(3)])
    np.testing.assert_array_equal(np.rint(found * 255).astype(np.uint8), expected)


def test_in_place_takes_pil_images(pipe: SDASPipeline) -> None:
    normal = np.random.default_rng(0).integers(0, 255, (64, 64, 1), np.uint8).repeat(3, axis=2)
    mask = np.zeros((64, 64), dtype=np.bool_)
    mask[20:40, 10:50] = True
    made = pipe(
        class_labels=2,
        image=Image.fromarray(normal),
        mask_image=Image.fromarray(mask),
        depth=0.3,
        strength=0.4,
        generator=image_generators([7]),
    ).images[0]
    assert isinstance(made, Image.Image)
    alone = load_generator(find_model("textures-64"))
    expected = alone.in_place("gravel", [7], [0.4], normal[None], mask[None], 0.3)[0]
    np.testing.assert_array_equal(np.asarray(made), expected)
    np.testing.assert_array_equal(np.asarray(made)[~mask], normal[~mask])


def test_a_saved_folder_is_a_model_folder(pipe: SDASPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "copy")
    facts = describe(tmp_path / "copy")
    assert facts.classes == pipe.facts.classes and facts.health == pipe.facts.health
    again = SDASPipeline.from_pretrained(tmp_path / "copy")
    first, second = (
        p("brick", generator=torch.Generator().manual_seed(1), output_type="pt").images
        for p in (pipe, again)
    )
    assert torch.equal(first, second) and first.shape == (1, 3, 64, 64)
    with torch.no_grad():
        next(iter(again.unet.parameters())).add_(0.5)
    assert not torch.equal(
        again("brick", generator=torch.Generator().manual_seed(1), output_type="pt").images, second
    )
    again.save_pretrained(tmp_path / "changed")
    assert not describe(tmp_path / "changed").health


def test_what_does_not_fit_is_named(pipe: SDASPipeline) -> None:
    image = np.zeros((64, 64), dtype=np.uint8)
    for options, message in (
        ({"class_labels": "bricks"}, "does not know 'bricks'"),
        ({"class_labels": 3}, "does not know 3"),
        ({"class_labels": ["brick", "grass"], "strength": [0.1]}, "1 strengths for 2"),
        ({"class_labels": "brick", "strength": -1.0}, "strength"),
        ({"class_labels": "brick", "num_inference_steps": 7}, "finished for 20 sampling steps"),
        ({"class_labels": "brick", "image": image}, "belong together"),
        ({"class_labels": "brick", "image": image, "mask_image": image}, "mask 0 is empty"),
        ({"class_labels": "brick", "output_type": "latent"}, "output_type"),
    ):
        with pytest.raises(UserError, match=message):
            pipe(**options)
