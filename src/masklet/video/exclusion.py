"""Tell the objects of a video apart: a cell belongs to one of those that exclude each other.

Labels that are copied along features do not tell twins apart, which look the same: only place and motion differ. So the
place of each object is predicted from its last frames, and a cell that several objects claim goes to the one that is
expected there. An object that lies in another, such as the hat of a person, does not exclude it.
Shapes: N objects, H and W at stride 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from masklet.models.sam2.label_matching import label_from_mask
from masklet.models.types import SelectedMasks
from masklet.tensors import Tensor, avg_pool2d, max_pool2d, torch
from masklet.video.memory_bank import MemoryBank, TrackedObject

__all__ = ["HISTORY", "apply_non_overlap", "exclusive_pairs", "predict_place", "share_priors", "yield_to_prompted"]

NON_OVERLAP_LOGIT = -10.0
"""The highest logit that a mask keeps where another object is in front."""
HISTORY = 6
"""Frames before this one from which motion is estimated."""
STEADY_AREA = 1.18
"""Factor between the areas of two frames up to which the shift of the center is motion; beyond, the object is hidden in
part, and its center is that of the rest."""
SLACK = 1.5
"""Cells that an object may be off its predicted place."""
MIN_PLACE = 0.05
"""Weight of an object's claim where it is not expected."""
MIN_PRIOR, UNKNOWN_CLAIM = 0.05, 1e-3
"""Where priors of exclusive objects sum to more than the first, one without any prior there claims the second; a label
under the first claims nothing."""
NESTED_OVERLAP = 0.5
"""Fraction of the smaller mask in the larger from which an object lies in another."""


def share_priors(
    priors: Mapping[int, Tensor],
    objects: Sequence[TrackedObject],
    frame_idx: int,
    *,
    reverse: bool,
    history: int = HISTORY,
) -> dict[int, Tensor]:
    """Return priors (1, 1, H, W) by object id, shared where exclusive objects claim the same cell.

    The sum over them is kept, so that no cell becomes background. Priors without a cell above one half are left out.
    Motion is estimated from `history` frames.
    """
    banks = {one.id: one.bank for one in objects if one.id in priors}
    priors_NHW = torch.cat([priors[number][0] for number in banks])
    others_NN = exclusive_pairs(list(banks.values()), frame_idx, reverse=reverse).to(priors_NHW)
    places = [predict_place(bank, frame_idx, reverse=reverse, history=history) for bank in banks.values()]
    places_NHW = torch.stack([priors_NHW.new_ones(priors_NHW.shape[1:]) if one is None else one for one in places])
    total_NHW = priors_NHW + torch.einsum("nm,mhw->nhw", others_NN, priors_NHW)
    claims_NHW = (priors_NHW + UNKNOWN_CLAIM * (total_NHW > MIN_PRIOR)) * places_NHW.clamp(min=MIN_PLACE)
    claimed_NHW = claims_NHW + torch.einsum("nm,mhw->nhw", others_NN, claims_NHW)
    shared_NHW = total_NHW.clamp(max=1) * claims_NHW / claimed_NHW.clamp(min=1e-6)
    shared_NHW = torch.where(others_NN.any(1)[:, None, None], shared_NHW, priors_NHW)
    found_N = (shared_NHW > 0.5).flatten(1).any(1).tolist()
    return {number: shared_NHW[i][None, None] for i, number in enumerate(banks) if found_N[i]}


def yield_to_prompted(
    priors: Mapping[int, Tensor], objects: Sequence[TrackedObject], frame_idx: int, *, reverse: bool
) -> dict[int, Tensor]:
    """Return priors (1, 1, H, W) by object id, without the cells of exclusive objects that are prompted on the frame.

    Priors without a cell above one half are left out.
    """
    prompted = [one for one in objects if frame_idx in one.bank.prompted]
    if not prompted or not priors:
        return dict(priors)
    exclusive_NN = exclusive_pairs([one.bank for one in objects], frame_idx, reverse=reverse)
    row = {one.id: index for index, one in enumerate(objects)}
    rest = {}
    for number, prior_11HW in priors.items():
        for other in prompted:
            if exclusive_NN[row[number], row[other.id]]:
                label_11HW = other.bank.label(frame_idx).to(prior_11HW)
                prior_11HW = prior_11HW * (1 - label_11HW * (label_11HW > MIN_PRIOR))
        if (prior_11HW > 0.5).any():
            rest[number] = prior_11HW
    return rest


def exclusive_pairs(banks: Sequence[MemoryBank], frame_idx: int, *, reverse: bool) -> Tensor:
    """Return whether two objects exclude each other, (N, N).

    They do not if one of them lay in the other in a prompted frame, or in the frame before.
    """
    exclusive_NN = ~torch.eye(len(banks), dtype=torch.bool)
    before = frame_idx + 1 if reverse else frame_idx - 1
    for index in {before, *(frame for bank in banks for frame in bank.prompted)}:
        states = {row: state for row, bank in enumerate(banks) if (state := bank.get(index)) is not None}
        masks = {row: state.logits_11HW.flatten() > 0 for row, state in states.items() if state.logits_11HW is not None}
        if len(masks) < 2:
            continue
        rows, masks_ND = torch.tensor(list(masks)), torch.stack(list(masks.values())).float().cpu()
        overlap_NN = masks_ND @ masks_ND.T
        smaller_NN = torch.minimum(overlap_NN.diagonal()[:, None], overlap_NN.diagonal())
        exclusive_NN[rows[:, None], rows] &= overlap_NN <= NESTED_OVERLAP * smaller_NN
    return exclusive_NN


def predict_place(bank: MemoryBank, frame_idx: int, *, reverse: bool, history: int = HISTORY) -> Tensor | None:
    """Return where an object is expected, (H, W) at stride 8: 1 near its moved label, 0 elsewhere; None: anywhere.

    Its last visible label moves on at the speed of the `history` frames before, and is grown by half of it.
    """
    label_HW, center_2, area, speed_2, at = None, None, 0.0, None, 0
    for age in range(history, 0, -1):
        state = bank.get(frame_idx + age if reverse else frame_idx - age)
        if state is None or state.logits_11HW is None or state.object_score <= 0:
            continue
        seen_HW = label_from_mask(state.logits_11HW)[0, 0]
        rows, columns = seen_HW.sum(1), seen_HW.sum(0)
        seen_area = float(rows.sum())
        if seen_area < 1:
            continue
        sums = [(part * torch.arange(len(part), device=part.device)).sum() for part in (rows, columns)]
        seen_2 = torch.stack(sums).cpu() / seen_area
        if center_2 is not None and at == age + 1 and 1 / STEADY_AREA < seen_area / area < STEADY_AREA:
            speed_2 = seen_2 - center_2 if speed_2 is None else (speed_2 + seen_2 - center_2) / 2
        label_HW, center_2, area, at = seen_HW, seen_2, seen_area, age
    if label_HW is None:
        return None
    speed_2 = torch.zeros(2) if speed_2 is None else speed_2
    limits = torch.tensor(label_HW.shape)
    down, right = torch.minimum(torch.maximum((speed_2 * at).round().long(), -limits), limits).tolist()
    height, width = label_HW.shape
    moved_HW = torch.zeros_like(label_HW)
    source_HW = label_HW[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
    moved_HW[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = source_HW
    grown = round(SLACK + 0.5 * float(speed_2.abs().max()) + 0.5 * (at - 1))
    place_11HW = max_pool2d(moved_HW[None, None], 2 * grown + 1, 1, grown)
    return avg_pool2d(place_11HW, 3, 1, 1, count_include_pad=False)[0, 0]


def apply_non_overlap(object_masks: Sequence[SelectedMasks], exclusive_NN: Tensor | None = None) -> list[SelectedMasks]:
    """Assign each position to the object with the highest logit there, and suppress the others.

    With `exclusive_NN` an object gives way only inside the masks of those that it excludes.
    """
    if len(object_masks) < 2:
        return list(object_masks)
    logits_N1HW = torch.cat([masks.logits_B1HW.float() for masks in object_masks])
    if exclusive_NN is None:
        winner_11HW = logits_N1HW.argmax(dim=0, keepdim=True)
        rank_N111 = torch.arange(len(object_masks), device=logits_N1HW.device)[:, None, None, None]
        apart = torch.where(winner_11HW == rank_N111, logits_N1HW, logits_N1HW.clamp(max=NON_OVERLAP_LOGIT))
    else:
        rows = []
        for row, logits_1HW in enumerate(logits_N1HW):
            others_E1HW = logits_N1HW[exclusive_NN[row].to(logits_N1HW.device)]
            lost_1HW = ((others_E1HW > 0) & (others_E1HW > logits_1HW)).any(0)
            rows.append(torch.where(lost_1HW, logits_1HW.clamp(max=NON_OVERLAP_LOGIT), logits_1HW))
        apart = torch.stack(rows)
    return [replace(masks, logits_B1HW=apart[i : i + 1]) for i, masks in enumerate(object_masks)]
