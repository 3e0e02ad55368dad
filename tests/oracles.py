"""Slow, plain loops that say what the fast code must say. Small functions; append only."""

import math


def voc_ap(detections, truth, *, iou=0.5, method="all"):
    """Average precision of one class, by the letter of the VOC protocol.

    detections: (image, score, box) in order; truth: image -> list of (box, ignored).
    """
    boxes = sum(not ignored for rows in truth.values() for _, ignored in rows)
    if not boxes:
        return math.nan
    taken, curve, tp, fp = set(), [], 0, 0
    for image, _, box in sorted(detections, key=lambda row: -row[1]):
        best, row = 0.0, None
        for number, (other, _) in enumerate(truth.get(image, [])):
            overlap = box_iou(box, other)
            if overlap > best:
                best, row = overlap, number
        if row is not None and best >= iou:
            if truth[image][row][1]:
                continue
            if (image, row) not in taken:
                taken.add((image, row))
                tp += 1
                curve.append((tp, tp / (tp + fp)))
                continue
        fp += 1
        curve.append((tp, tp / (tp + fp)))

    def reached(numerator, denominator):
        wanted = [p for n, p in curve if n * denominator >= numerator * boxes]
        return max(wanted, default=0.0)

    if method == "11":
        return sum(reached(tenths, 10) for tenths in range(11)) / 11
    return sum(reached(number, boxes) for number in range(1, boxes + 1)) / boxes


def box_iou(a, b):
    """IoU of two boxes (x1, y1, x2, y2)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def core_set_full(features, budget, labelled, weights, first):
    """Greedy k-center over all distances (BiB Eq. 7, 10); `first` is the random first pick."""
    points = features.double().tolist()
    weights = [1.0] * len(points) if weights is None else [float(weight) for weight in weights]
    centres = list(dict.fromkeys(labelled)) or [first]
    picks = [] if labelled else [first]
    while len(picks) < budget and len(centres) < len(points):
        best, most = -1, -1.0
        for i in sorted(set(range(len(points))) - set(centres)):
            squares = (
                sum((a - b) ** 2 for a, b in zip(points[i], points[j], strict=True))
                for j in centres
            )
            value = weights[i] ** 2 * min(squares)
            if value > most * (1 + 1e-12):
                best, most = i, value
        picks.append(best)
        centres.append(best)
    return picks


def entropy_loop(probs):
    """Entropy of each row: over the row if all rows sum to 1, else binary over columns 1..."""
    softmax = all(abs(sum(row) - 1) <= 1e-3 for row in probs)
    found = []
    for row in probs:
        total = 0.0
        for p in row if softmax else row[1:]:
            for q in (p,) if softmax else (p, 1 - p):
                total -= q * math.log(q) if q > 0 else 0.0
        found.append(total)
    return found


def containment(inner, outer):
    """Share of one box inside another, corner by corner."""
    width = min(inner[2], outer[2]) - max(inner[0], outer[0])
    height = min(inner[3], outer[3]) - max(inner[1], outer[1])
    size = (inner[2] - inner[0]) * (inner[3] - inner[1])
    return width * height / size if width > 0 and height > 0 and size > 0 else 0.0


def schedule_seconds(unlabelled, labelled, per_cycle, cycles, score, train, label):
    """Seconds of a schedule, image by image; `train(labelled)` is the time of one training."""
    pool, known, total = list(range(unlabelled)), labelled, 0.0
    for _ in range(cycles):
        for _ in pool:
            total += score
        for _ in range(per_cycle):
            pool.pop()
            known += 1
            total += label
        total += train(known)
    return total


def region_scores(classify, detect):
    """Eq. 6 of BiB's appendix, entry by entry, from logits (R, C) as lists of rows."""
    found = []
    for row in range(len(classify)):
        over_classes = sum(math.exp(value) for value in classify[row])
        found.append([])
        for c in range(len(classify[row])):
            over_regions = sum(math.exp(one[c]) for one in detect)
            of_class = math.exp(classify[row][c]) / over_classes
            found[-1].append(of_class * math.exp(detect[row][c]) / over_regions)
    return found


def pseudo_box_rows(boxes, scores, *, share, max_iou, kept_only=False):
    """Rows that become pseudo-boxes of one class (BiB appendix §3.1), best first."""
    ranked = sorted(range(len(boxes)), key=lambda row: (-scores[row], row))
    ranked = ranked[: max(1, math.floor(share * len(boxes)))]
    kept = []
    for rank, row in enumerate(ranked):
        rivals = kept if kept_only else ranked[:rank]
        if all(box_iou(boxes[row], boxes[rival]) < max_iou for rival in rivals):
            kept.append(row)
    return kept


def box_pairs(boxes, labels, scores, *, min_ratio, min_containment, min_score=0.0, tags=None):
    """Eq. 1 of BiB, pair by pair: (small, large) in lexicographic order."""
    kept = [
        row
        for row, (x1, y1, x2, y2) in enumerate(boxes)
        if (x2 - x1) * (y2 - y1) > 0
        and scores[row] > min_score
        and (tags is None or labels[row] in tags)
    ]
    found = []
    for i in kept:
        for j in kept:
            small, large = [(b[2] - b[0]) * (b[3] - b[1]) for b in (boxes[i], boxes[j])]
            if labels[i] == labels[j] and large / small >= min_ratio:
                if containment(boxes[i], boxes[j]) >= min_containment:
                    found.append((i, j))
    return found


def distance_powers(rows, groups, taken, power):
    """Distance of each row to the nearest row of the groups taken, to a power."""
    centres = [row for row, group in zip(rows, groups, strict=True) if group in taken]
    return [
        0.0 if group in taken else min(math.dist(row, centre) for centre in centres) ** power
        for row, group in zip(rows, groups, strict=True)
    ]


def draw_weights(rows, groups, taken, power):
    """What the probability of each row is proportional to in BiB's Algorithm 2."""
    powers = distance_powers(rows, groups, taken, power)
    return powers if any(powers) else [float(group not in taken) for group in groups]


def kmeans_pp_loop(rows, groups, budget, *, chosen, power, first, uniforms):
    """BiB's Algorithm 2 over all distances; several numbers from `uniforms()` are local trials.

    `first` is the position of the first pick among the groups with most rows.
    """
    taken = [name for name in dict.fromkeys(chosen) if name in groups]
    before = len(taken)
    if not taken and budget:
        names = list(dict.fromkeys(groups))
        most = max(map(groups.count, names))
        taken.append([name for name in names if groups.count(name) == most][first])
    while len(taken) - before < budget and len(taken) < len(set(groups)):
        weights = draw_weights(rows, groups, taken, power)
        best, least = None, math.inf
        for number in uniforms():
            row, left = 0, number * math.fsum(weights) - weights[0]
            while left >= 0:
                row += 1
                left -= weights[row]
            total = math.fsum(distance_powers(rows, groups, [*taken, groups[row]], power))
            if total < least:
                best, least = groups[row], total
        taken.append(best)
    return taken[before:]


def kmeans_pp_probabilities(rows, groups, picks, *, chosen, power):
    """The probability of every ordered list of `picks` groups after those chosen."""
    if not picks:
        return {(): 1.0}
    weights = draw_weights(rows, groups, chosen, power)
    found = {}
    for name in dict.fromkeys(groups):
        own = sum(w for w, group in zip(weights, groups, strict=True) if group == name)
        if own:
            rest = kmeans_pp_probabilities(
                rows, groups, picks - 1, chosen=[*chosen, name], power=power
            )
            found |= {(name, *more): p * own / sum(weights) for more, p in rest.items()}
    return found
