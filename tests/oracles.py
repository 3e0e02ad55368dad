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


def miss_points(images, *, min_iou=0.5):
    """Points (fppi, miss, threshold), every threshold matched anew, as Caltech's evaluation does.

    images: (detections, truth) of one class, detections (score, box), truth (box, ignored).
    """
    boxes = sum(not ignored for _, truth in images for _, ignored in truth)
    points = []
    for least in sorted({math.inf, *(s for rows, _ in images for s, _ in rows)}, reverse=True):
        right, wrong = 0, 0
        for rows, truth in images:
            taken = set()
            for _, box in sorted((r for r in rows if r[0] >= least), key=lambda row: -row[0]):
                best, match = min_iou, None
                for number, (other, ignored) in enumerate(truth):
                    overlap = box_iou(box, other)
                    better = overlap > best or (overlap == best and match is None)
                    if not ignored and number not in taken and better:
                        best, match = overlap, number
                if match is not None:
                    taken.add(match)
                    right += 1
                elif not any(
                    ignored and box_share(box, other) >= min_iou for other, ignored in truth
                ):
                    wrong += 1
        points.append(
            (wrong / max(len(images), 1), (boxes - right) / boxes if boxes else math.nan, least)
        )
    return [point for n, point in enumerate(points) if not n or point[:2] != points[n - 1][:2]]


def box_share(inner, outer):
    """The share of the inner box that lies in the outer one."""
    width = min(inner[2], outer[2]) - max(inner[0], outer[0])
    height = min(inner[3], outer[3]) - max(inner[1], outer[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / ((inner[2] - inner[0]) * (inner[3] - inner[1]))


def pixel_labels(target, sizes, size, classes, *, positive=0.7, negative=0.4):
    """What each pixel of each map of a per-pixel detector is, pixel by pixel: 1, 0 or -1.

    target: boxes, labels, ignore, negatives (lists), complete, absent (a set); sizes (height,
    width); size (h, w). The answer is a dict (k, class - 1, y, x) -> label.
    """

    def inside(box):
        x1, y1, x2, y2 = box
        return max(x1, 0), max(y1, 0), min(x2, size[1]), min(y2, size[0])

    def overlap(box, k, y, x):
        high, wide = sizes[k]
        x, y = x + 0.5, y + 0.5
        default = (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
        return box_iou(inside(box), inside(default))

    places = [(k, y, x) for k in range(len(sizes)) for y in range(size[0]) for x in range(size[1])]
    known = {c for c in range(1, classes + 1) if target["complete"] or c in target["absent"]}
    found = {(k, c, y, x): -(c + 1 not in known) for k, y, x in places for c in range(classes)}
    for box in target["negatives"]:
        near = {place: overlap(box, *place) for place in places}
        for (k, y, x), value in near.items():
            if value > 0 and value >= positive * max(near.values()):
                found |= {(k, c, y, x): 0 for c in range(classes)}
    sure = []
    for box, label, ignored in zip(
        target["boxes"], target["labels"], target["ignore"], strict=True
    ):
        near = {place: overlap(box, *place) for place in places}
        for (k, y, x), value in near.items():
            here = (k, label - 1, y, x)
            x1, y1, x2, y2 = inside(box)
            if value > 0 and value >= negative * max(near.values()):
                found[here] = -1
            if ignored and x1 < x + 0.5 < x2 and y1 < y + 0.5 < y2:
                found[here] = -1
            if not ignored and value > 0 and value >= positive * max(near.values()):
                sure.append(here)
    return found | dict.fromkeys(sure, 1)


def binary_entropy(p):
    return sum(-q * math.log(q) for q in (p, 1 - p) if q > 0)


def divergence_map(maps, radius):
    """Divergence Eq. 1, 2, 4, pixel by pixel; maps are nested lists, windows shrink at the edge."""
    height, width = len(maps[0]), len(maps[0][0])
    score = [[0.0] * width for _ in range(height)]
    for y in range(height):
        for x in range(width):
            rows = range(max(0, y - radius), min(height, y + radius + 1))
            columns = range(max(0, x - radius), min(width, x + radius + 1))
            for one in maps:
                window = [one[i][j] for i in rows for j in columns]
                mean = math.fsum(window) / len(window)
                entropies = math.fsum(binary_entropy(p) for p in window)
                score[y][x] += binary_entropy(mean) - entropies / len(window)
    return score


def block_score(score, region):
    """Divergence Eq. 5: the mean over tiles of the largest score in each, and those."""
    height, width = len(score), len(score[0])
    maxima = [
        [
            max(row[x] for row in score[top : top + region] for x in range(left, right))
            for left, right in ((x, min(x + region, width)) for x in range(0, width, region))
        ]
        for top in range(0, height, region)
    ]
    flat = [value for row in maxima for value in row]
    return sum(flat) / len(flat), maxima


def smoothed(scores, video, frame, half_window, sigma):
    """Divergence Eq. 6, frame by frame."""
    found = []
    for v, f in zip(video, frame, strict=True):
        top = total = 0.0
        for score, other, number in zip(scores, video, frame, strict=True):
            if other == v and abs(number - f) <= half_window:
                weight = math.exp(-((number - f) ** 2) / (2 * sigma**2))
                top, total = top + weight * score, total + weight
        found.append(top / total)
    return found


def frames_apart(scores, budget, video, frame, now, later, before):
    """The two rules of Divergence §3, one pick after another over everything that is left."""
    picked = []
    for _ in range(budget):
        left = [
            i
            for i in range(len(scores))
            if all(video[i] != video[j] or abs(frame[i] - frame[j]) > now for j in picked)
            and all(video[i] != v or abs(frame[i] - f) > later for v, f in before)
        ]
        if not left:
            break
        picked.append(max(left, key=lambda i: (scores[i], -i)))
    return picked


def pasted_consistency(images, pasted, label, *, min_iou, average, failures_as_zero):
    """SSM Eq. 5 and 6: `images` holds, for each, a list of (box, probs) of what was detected."""
    means, successes = [], 0
    for found, place in zip(images, pasted, strict=True):
        near = [probs[label] for box, probs in found if box_iou(box, place) >= min_iou]
        successes += bool(near)
        if not near:
            means.append(0.0)
        elif average == "best":
            means.append(max(near))
        else:
            means.append(math.fsum(near) / len(near if average == "matched" else found))
    count = len(images) if failures_as_zero else successes
    return math.fsum(means) / count if count else 0.0


def cheapest_label(probs, weights):
    """SSM Eq. 7: try all C + 1 assignments; -1 where nothing, or not the best class, has weight."""

    def loss(p, positive):
        chance = p if positive else 1 - p
        return -math.log(chance) if chance > 0 else math.inf

    if not weights[max(range(len(probs)), key=lambda j: (probs[j], -j))]:
        return -1
    costs = []
    for label in range(len(probs) + 1):
        losses = [loss(p, j + 1 == label) for j, p in enumerate(probs)]
        costs.append(math.fsum(w * one for w, one in zip(weights, losses, strict=True) if w))
    return costs.index(min(costs))


def most_consistent(scores, labels, k):
    """SSM above Eq. 7: for each class in turn, the best k that are not zero."""
    found = []
    for label in sorted(set(labels)):
        rows = [i for i, one in enumerate(labels) if one == label and scores[i] > 0]
        found += sorted(rows, key=lambda i: (-scores[i], i))[:k]
    return found


def cogenerated(found, annotated, *, min_score, nms_iou, match_iou, class_aware=True):
    """Rows of (box, label, score) that co-generation mines, best first (Co-mining, Algorithm 1).

    found: rows in any order; annotated: rows of (box, label).
    """
    order = sorted(range(len(found)), key=lambda i: (-found[i][2], i))
    kept = []
    for i in order:
        box, label, score = found[i]
        if score < min_score or box[2] <= box[0] or box[3] <= box[1]:
            continue
        rivals = [j for j in kept if not class_aware or found[j][1] == label]
        if all(box_iou(box, found[j][0]) <= nms_iou for j in rivals):
            kept.append(i)
    mined = []
    for i in kept:
        box, label, _ = found[i]
        boxes = [other for other, of in annotated if not class_aware or of == label]
        if all(box_iou(box, other) <= match_iou for other in boxes):
            mined.append(i)
    return mined


def masked_loss(logits, labels, from_seed, mask_background=True):
    """NOTE-RCNN Eq. 2, row by row."""
    total = 0.0
    for row, u, seed in zip(logits, labels, from_seed, strict=True):
        weight = 0 if mask_background and u == 0 and not seed else 1
        total -= weight * (row[u] - math.log(math.fsum(math.exp(value) for value in row)))
    return total / len(labels) if len(labels) else 0.0


def distilled_loss(logits, probs):
    """NOTE-RCNN Eq. 3: s over proposals, j over the source's classes and background."""
    total = 0.0
    for row, wanted in zip(logits, probs, strict=True):
        rest = math.log(math.fsum(math.exp(value) for value in row))
        total -= math.fsum(p * (value - rest) for p, value in zip(wanted, row, strict=True))
    return total / len(logits)


def mined_rows(found, tags, min_score, every=False):
    """NOTE-RCNN §3.2: rows of (box, label, score) that are mined, class by class."""
    rows = []
    for label in sorted(tags):
        of = [
            i
            for i, (box, own, score) in enumerate(found)
            if own == label and score > min_score and box[2] > box[0] and box[3] > box[1]
        ]
        of.sort(key=lambda i: (-found[i][2], i))
        rows += of if every else of[:1]
    return rows


def faults_of_mined(mined, truth, min_iou=0.5, near=0.1):
    """What each mined (box, label, score) of one image is, and how many (box, label) are missed."""
    kinds, taken = {}, set()
    for i in sorted(range(len(mined)), key=lambda i: (-mined[i][2], i)):
        box, label, _ = mined[i]
        overlaps = [box_iou(box, other) for other, _ in truth]
        free = [
            j
            for j, (_, own) in enumerate(truth)
            if own == label and overlaps[j] >= min_iou and j not in taken
        ]
        own = [overlap for overlap, (_, of) in zip(overlaps, truth, strict=True) if of == label]
        other = [overlap for overlap, (_, of) in zip(overlaps, truth, strict=True) if of != label]
        if free:
            taken.add(max(free, key=lambda j: (overlaps[j], -j)))
            kinds[i] = "right"
        elif any(overlap >= min_iou for overlap in other):
            kinds[i] = "wrong_class"
        elif any(near <= overlap < min_iou for overlap in own):
            kinds[i] = "inaccurate"
        else:
            kinds[i] = "false_positive"
    return [kinds[i] for i in range(len(mined))], len(truth) - len(taken)
