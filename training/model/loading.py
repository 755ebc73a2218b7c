"""Opening models: the embedded one, PaliGemma folders and hub ids, and adapters on top of them. Only safetensors are ever
read, and nothing is fetched but a hub id that was asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.errors import BrokenModel
from training.model.checkpoint import CARD, CODEBOOK, Checkpoint, read_card, sampled
from training.model.folder import base_named, check_model_folder, read_json
from training.model.taught import ADAPTER_CONFIG, ADAPTER_WEIGHTS, OPENING_ERRORS, with_adapter

if TYPE_CHECKING:
    from training.tokens.codebook import MaskCodebook

EMBEDDED = "embedded"
EMBEDDED_FOLDER = Path(__file__).parent / "chexanatomy_tiny"

# Larger models are kept in the precision they are stored in.
SMALL_BYTES = 2 << 30

logger = logging.getLogger(__name__)
Say = Callable[[str], None]
"""Called with a sentence before anything is fetched from the network."""


def load_checkpoint(spec: str | Path = EMBEDDED, codebook: str | Path | None = None, say: Say | None = None) -> Checkpoint:
    """Open a model.

    spec: "embedded"; a PaliGemma, PaliGemma 2 or chexanatomy folder; a hub id such as "google/paligemma2-3b-pt-224"; an adapter
    folder or hub id, which names its base; or "base+adapter". codebook: path of a mask codebook for models that bring none;
    the log tells of one that is not used. say: told before something is fetched, by default the log. The network is used for a
    hub id in `spec` alone, and only where it is not cached; the base that an adapter from the hub names comes with it, the base
    that a folder names has to be here.
    Raises BrokenModel with the reason and the remedy.
    """
    return _load(str(spec), codebook, say, fetch=True)


def _load(text: str, codebook: str | Path | None, say: Say | None, fetch: bool, upon: tuple[Path, ...] = ()) -> Checkpoint:
    """upon: the adapter folders that named this model as their base, one after the other."""
    if "+" in text and not Path(text).exists():
        base, adapter = _base_and_adapter(text)
        return with_adapter(_load(base.strip(), codebook, say, fetch, upon), _folder(adapter.strip(), say, fetch))
    folder = _folder(text, say, fetch)
    if (folder / ADAPTER_CONFIG).exists():
        if folder.resolve() in upon:
            raise BrokenModel(f"The adapter {folder.name} comes back to itself as its base: give it as BASE+ADAPTER.")
        from_hub = fetch and is_hub_id(text)
        return with_adapter(_load(_base_of(folder), codebook, say, from_hub, (*upon, folder.resolve())), folder)
    known_as = text if text == EMBEDDED or not Path(text).expanduser().is_dir() else str(folder.resolve())
    if codebook is not None and (own := _own_codebook(folder)):
        logger.warning("%s brings the mask codebook it was taught with, %s: %s is not used.", folder.name, own.name, codebook)
    return replace(_open(folder, folder.name, codebook), source=known_as)


def _base_and_adapter(text: str) -> tuple[str, str]:
    """Cut BASE+ADAPTER, where the base may be one itself and a folder's name may hold a +."""
    cuts = [n for n, letter in enumerate(text) if letter == "+"]
    cut = next((n for n in cuts if Path(text[n + 1 :].strip()).expanduser().is_dir()), cuts[-1])
    return text[:cut], text[cut + 1 :]


def is_hub_id(text: str) -> bool:
    """True for a spec that is no folder but a name of the form OWNER/MODEL."""
    parts = text.split("/")
    return not Path(text).expanduser().exists() and len(parts) == 2 and all(parts) and not text.startswith((".", "~", "/"))


def _folder(text: str, say: Say | None, fetch: bool) -> Path:
    """The folder behind a spec, fetched from the hub where it is a hub id."""
    if text == EMBEDDED:
        if not (EMBEDDED_FOLDER / "config.json").exists():
            raise BrokenModel(
                "This installation carries no embedded model: install a released package, train one with `chexanatomy train`, "
                "or name a model folder."
            )
        return EMBEDDED_FOLDER
    path = Path(text).expanduser()
    if path.is_dir():
        return path
    if not is_hub_id(text):
        raise BrokenModel(
            f"There is no model folder {text}: name a folder with config.json, a hub id like google/paligemma2-3b-pt-224, "
            "or 'embedded'."
        )
    return _from_hub(text, say, fetch)


def _from_hub(hub_id: str, say: Say | None, fetch: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    kinds = ["*.json", "*.safetensors", "*.model", "*.txt", "*.npz"]
    try:
        try:
            return Path(snapshot_download(hub_id, allow_patterns=kinds, local_files_only=True))
        except LocalEntryNotFoundError:
            if not fetch:
                raise BrokenModel(
                    f"The base {hub_id} that the adapter names is not on this machine: give {hub_id}+ADAPTER to have it fetched."
                ) from None
        (say or logger.warning)(f"fetching {hub_id} from the Hugging Face hub")
        return Path(snapshot_download(hub_id, allow_patterns=kinds))
    except (HFValidationError, OSError) as error:  # every failure of the hub and of the network is an OSError
        raise BrokenModel(
            f"The model {hub_id} is neither in the local cache nor reachable on the hub ({type(error).__name__}): "
            "download it where there is a connection, accept its licence and log in if it asks for that, and give its folder."
        ) from error


def _base_of(adapter: Path) -> str:
    card = read_card(adapter)
    if card.get("base"):
        return base_named(adapter, str(card["base"]))
    base = read_json(adapter / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not base:
        raise BrokenModel(f"The adapter {adapter.name} does not name its base model: give it as BASE+ADAPTER.")
    return base_named(adapter, str(base))


def _open(folder: Path, name: str, codebook: str | Path | None) -> Checkpoint:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoTokenizer
    from transformers.utils import logging as transformers_logging

    from training.model.stem import StemmedPaliGemma

    if not (folder / "config.json").exists():
        raise BrokenModel(f"{folder} has no config.json: name the folder of a PaliGemma, PaliGemma 2 or chexanatomy model.")
    config = read_json(folder / "config.json")
    if config.get("model_type") != "paligemma":
        raise BrokenModel(f"{folder.name} is a {config.get('model_type')!r} model: choose a PaliGemma or PaliGemma 2 model.")
    weights = sorted(folder.glob("*.safetensors"))
    weights = [w for w in weights if w.name not in (CODEBOOK, ADAPTER_WEIGHTS)]
    if not weights:
        pickled = [p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt")]
        found = f"only {pickled[0]}, which could run foreign code" if pickled else "no weights"
        raise BrokenModel(f"{folder.name} holds {found}: take the safetensors version of the model.")
    check_model_folder(folder)
    card = read_card(folder)
    packed = bool(card.get("packed", False))
    small = sum(w.stat().st_size for w in weights) < SMALL_BYTES
    # Gemma 2 caps its attention scores, which torch's fused attention cannot do.
    capped = _text_type(config) == "gemma2"
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        model, info = StemmedPaliGemma.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32 if packed or small else "auto",
            attn_implementation="eager" if capped else "sdpa",
            trust_remote_code=False,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (SafetensorError, *OPENING_ERRORS) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise BrokenModel(f"{folder.name} cannot be opened ({reason}): take the folder from its source again.") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    missing = sorted(info["missing_keys"])
    if missing:
        raise BrokenModel(
            f"{folder.name} lacks {len(missing)} weights ({missing[0]}, ...): take the folder from its source again."
        )
    book = _own_codebook(folder) or codebook
    return Checkpoint(
        model.eval(),
        tokenizer,
        open_codebook(book) if book is not None else None,
        model.config.vision_config.image_size,
        packed,
        str(card.get("name", name)),
        card,
        weights=sampled(model),
    )


def _text_type(config: dict[str, Any]) -> str:
    text = config.get("text_config", {})
    return str(text.get("model_type", "gemma")) if isinstance(text, dict) else ""


def open_codebook(path: str | Path) -> MaskCodebook:
    """Read the codebook of a model. Raises BrokenModel for one that has not PaliGemma's 4 x 4 codes."""
    from training.tokens.codebook import GRID, MaskCodebook

    codebook = MaskCodebook.load(path)
    if codebook.grid != GRID:
        raise BrokenModel(
            f"{Path(path).name} has {codebook.grid} x {codebook.grid} codes, a model writes {GRID} x {GRID}: give another one."
        )
    return codebook.eval()


def _own_codebook(folder: Path) -> Path | None:
    own = [folder / name for name in (CODEBOOK, "vae-oid.npz") if (folder / name).exists()]
    return own[0] if own else None


__all__ = ["CARD", "EMBEDDED", "EMBEDDED_FOLDER", "load_checkpoint"]
