"""Names of models: every spelling finds its card, every other is refused with the nearest one."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from helpers.reference import published_shapes
from masklet import registry
from masklet.errors import CheckpointError, DownloadError, UnknownModelError
from masklet.models.sam2 import CONFIGS
from masklet.registry import BUILTIN, MODELS, ModelCard, get_card, is_downloaded, locate, resolve

MANIFESTS = Path(__file__).parent / "golden" / "manifests"
SIZES = {"tiny": "t", "small": "s", "base_plus": "b", "large": "l"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, an empty cache and no network."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("MASKLET_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MASKLET_OFFLINE", "1")
    return tmp_path


def spellings(version: str, size: str, short: str) -> list[str]:
    dashed = size.replace("_", "-")
    names = [
        f"sam{version}_{short}",
        f"sam{version}-{short}",
        f"sam{version}_{size}",
        f"sam{version}-{dashed}",
        f"sam{version}_hiera_{size}",
        f"sam{version}_hiera_{short}",
        f"sam{version}-hiera-{dashed}",
    ]
    if size == "base_plus":
        names += [f"sam{version}-b+", f"sam{version}_hiera_b+", f"sam{version}_base", f"SAM{version} base+"]
    return [*names, *(f"{name}.pt" for name in names), f"facebook/sam{version}-hiera-{dashed}"]


EVERY = [
    (spelling, f"sam{version}_hiera_{size}")
    for version in ("2", "2.1")
    for size, short in SIZES.items()
    for spelling in spellings(version, size, short)
]


@pytest.mark.parametrize(("spelling", "name"), EVERY)
def test_every_spelling_finds_its_card(spelling: str, name: str) -> None:
    assert get_card(spelling).name == name
    assert get_card(spelling.upper()).name == name
    assert get_card(f" {spelling} ").name == name


@pytest.mark.parametrize("spelling", [BUILTIN, "builtin", "masklet", "Masklet_Builtin"])
def test_the_builtin_model_has_names(spelling: str) -> None:
    assert get_card(spelling).is_builtin


def test_no_spelling_means_two_models() -> None:
    keys = [registry._normalize_name(name) for card in MODELS.values() for name in (card.name, *card.aliases)]
    assert len(keys) == len(set(keys))


def test_every_alias_is_found() -> None:
    assert all(get_card(alias) is card for card in MODELS.values() for alias in card.aliases)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("sam2.1_tinny.pt", "sam2.1_tiny"),
        ("sam2_hiera_lagre", "sam2_hiera_large"),
        ("facebook/sam2.1-hiera-smal", "sam2.1_hiera_small"),
        ("sam2b.pt", "sam2_b"),
    ],
)
def test_a_wrong_name_shows_the_nearest_and_all(wrong: str, near: str) -> None:
    with pytest.raises(UnknownModelError) as caught:
        get_card(wrong)
    message = str(caught.value)
    assert repr(wrong) in message
    assert f"Did you mean {near!r}?" in message
    assert all(name in message for name in MODELS)


def test_a_name_like_nothing_gets_no_guess() -> None:
    with pytest.raises(UnknownModelError, match=r"'qqqqzzzz' is not a known model\. Give") as caught:
        get_card("qqqqzzzz")
    assert "Did you mean" not in str(caught.value)


def test_a_missing_path_is_called_a_file() -> None:
    with pytest.raises(UnknownModelError, match="neither a file that exists nor a known model"):
        resolve("weights/sam2_b.pt")


@pytest.mark.parametrize("name", [n for n, card in MODELS.items() if card.family in ("yolo", "fastsam")])
def test_cards_of_yolo_hold_what_is_published(name: str) -> None:
    card = MODELS[name]
    file = MANIFESTS / f"{name.lower().replace('fastsam-', 'fastsam_')}.json"
    learnt = (math.prod(s) for n, s in json.loads(file.read_text()).items() if n.endswith((".weight", ".bias")))
    assert card.parameters == sum(learnt)
    assert card.url == f"https://github.com/ultralytics/assets/releases/download/v8.3.0/{name}.pt"
    assert (card.size is None) == (card.sha256 is None)
    assert card.family == ("fastsam" if name.startswith("FastSAM") else "yolo")
    assert (card.license_code, card.license_weights) == ("Apache-2.0", "AGPL-3.0")
    assert get_card(f"{name}.pt") is get_card(name.upper()) is card


FIRST = {
    "sam_vit_b": ["sam_b.pt", "SAM-B", "sam_vit_b_01ec64.pth", "sam_base", "facebook/sam-vit-base", "sam_vit_b"],
    "sam_vit_l": ["sam_l.pt", "sam_vit_l_0b3195.pth", "facebook/sam-vit-large"],
    "sam_vit_h": ["sam_h.pt", "sam_vit_h_4b8939.pth", "facebook/sam-vit-huge", "sam_huge"],
    "mobile_sam": ["mobile_sam.pt", "mobile-sam", "MobileSAM"],
}


def check_numbers(card: ModelCard, name: str) -> None:
    """Parameters and size are those of the published file, whose sum is known."""
    shapes = published_shapes(name)
    assert card.parameters == sum(math.prod(shape) for shape in shapes.values())
    assert card.size is not None
    assert 4 * card.parameters < card.size < 4 * card.parameters + 300_000
    assert re.fullmatch(r"[0-9a-f]{64}", card.sha256 or "")


@pytest.mark.parametrize("name", list(FIRST))
def test_cards_of_sam_hold_what_is_published(name: str) -> None:
    card = MODELS[name]
    check_numbers(card, name)
    assert card.url is not None
    assert card.url.endswith(f"/{card.file}")
    assert (card.family, card.license_code, card.license_weights) == ("sam1", "Apache-2.0", "Apache-2.0")
    assert all(get_card(spelling) is card for spelling in FIRST[name])
    assert card.short_name == FIRST[name][0]


@pytest.mark.parametrize("name", [n for n in MODELS if n.startswith("sam2")])
def test_cards_hold_what_is_published(name: str) -> None:
    card = MODELS[name]
    check_numbers(card, name)
    day = "092824" if "2.1" in name else "072824"
    assert card.url == f"https://dl.fbaipublicfiles.com/segment_anything_2/{day}/{name}.pt"
    assert card.license_code == card.license_weights == "Apache-2.0"


TAM = ["edgetam", *(f"efficienttam_{size}{end}" for size in ("s", "ti") for end in ("", "_1", "_2", "_512x512"))]


@pytest.mark.parametrize("name", TAM)
def test_cards_of_edgetam_and_efficienttam_hold_what_is_published(name: str) -> None:
    card = MODELS[name]
    shapes = published_shapes("_".join(name.split("_")[:2]))
    assert card.parameters == sum(math.prod(shape) for shape in shapes.values())
    assert card.size is None or 4 * card.parameters < card.size < 4 * card.parameters + 400_000
    assert card.url is not None
    assert card.url.endswith(f"/{name}.pt")
    assert card.license_code == card.license_weights == "Apache-2.0"
    assert get_card(f"{name}.pt") is get_card(name.replace("_", "-").upper()) is card
    assert (card.file, card.short_name) == (f"{name}.pt", f"{name}.pt")


def test_every_sam2_network_has_a_card() -> None:
    assert {name for name, card in MODELS.items() if card.family == "sam2"} == {BUILTIN, *CONFIGS} - {"builtin"}


def test_hashes_differ() -> None:
    known = [card.sha256 for card in MODELS.values() if card.sha256]
    assert len(set(known)) == len(known)


def test_an_existing_file_wins_over_a_name(elsewhere: Path) -> None:
    (elsewhere / "here" / "sam2_b.pt").write_bytes(b"mine")
    assert resolve("sam2_b.pt") == Path("sam2_b.pt")


def test_the_current_folder_wins_over_the_cache(elsewhere: Path) -> None:
    card = get_card("sam2.1_t")
    here = elsewhere / "here" / card.file
    here.write_bytes(b"mine")
    assert locate(card) == here
    assert is_downloaded(card)


def test_the_cache_needs_no_network(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = get_card("sam2.1_t")
    assert card.size is not None
    cached = elsewhere / "cache" / card.file
    cached.parent.mkdir()
    with cached.open("wb") as file:
        file.truncate(card.size)  # sparse: takes no room
    assert is_downloaded(card)
    assert resolve("SAM2.1_T") == cached


def test_a_cached_file_of_another_size_is_not_taken(elsewhere: Path) -> None:
    card = get_card("sam2.1_t")
    cached = elsewhere / "cache" / card.file
    cached.parent.mkdir()
    cached.write_bytes(b"short")
    assert not is_downloaded(card)
    with pytest.raises(DownloadError, match=r"the file there has 5 bytes, not 156008466"):
        locate(card)


def test_without_network_the_error_says_what_where_from_and_where_to(elsewhere: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        resolve("sam2_b.pt")
    message = str(caught.value)
    assert "sam2_hiera_base_plus.pt (323.5 MB)" in message
    assert "https://dl.fbaipublicfiles.com/segment_anything_2/072824/sam2_hiera_base_plus.pt" in message
    assert str(elsewhere / "cache" / "sam2_hiera_base_plus.pt") in message
    assert not is_downloaded(get_card("sam2_b"))


def test_the_builtin_file_is_in_the_package(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = elsewhere / "masklet-builtin.safetensors"
    monkeypatch.setattr(registry, "_builtin_path", lambda card: file)
    with pytest.raises(CheckpointError, match="lost its built-in model"):
        locate(MODELS[BUILTIN])
    assert not is_downloaded(MODELS[BUILTIN])
    file.touch()
    assert locate(MODELS[BUILTIN]) == file
    assert is_downloaded(MODELS[BUILTIN])
