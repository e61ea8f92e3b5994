"""Every loss as a slow loop over plain numbers, from its equation; shares nothing with the library."""

import math


def softmax(row):
    top = max(row)
    e = [math.exp(v - top) for v in row]
    return [v / sum(e) for v in e]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b))


def norm(a):
    return math.sqrt(dot(a, a))


def unit(a):
    length = norm(a)
    return [v / length for v in a] if length > 1e-12 else [0.0 for _ in a]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def huber(x, delta=1.0):
    x = abs(x)
    return x * x / 2 if x <= delta else delta * (x - delta / 2)


def divergence(t, s):
    return sum(tc * (math.log(tc) - math.log(sc)) for tc, sc in zip(t, s) if tc > 0)


def kd(student, teacher, temperature=4.0):
    soft = [[softmax([v / temperature for v in row]) for row in x] for x in (student, teacher)]
    return [temperature**2 * divergence(t, s) for s, t in zip(*soft)]


def uncertainty_kl(student, teacher):
    rows = []
    for s, t in zip(student, teacher):
        p, q = softmax(s), softmax(t)
        weight = -sum(v * math.log(v + 1e-6) for v in p) / math.log(len(p))
        rows.append(weight * divergence(q, p))
    return rows


def confidence(logits):
    return [-sum(v * math.log(v) for v in softmax(row) if v > 0) / math.log(len(row)) for row in logits]


def weighted_cross_entropy(logits, target, weights):
    return [-weights[y] * math.log(softmax(row)[y]) for row, y in zip(logits, target)]


def rkd_distance(student, teacher):
    tables = []
    for x in (student, teacher):
        n = len(x)
        d = [[0.0] * n for _ in range(n)]
        for i in range(n):
            for j in range(n):
                if i != j:
                    d[i][j] = math.sqrt(max(sum((a - b) ** 2 for a, b in zip(x[i], x[j])), 1e-12))
        positive = [v for row in d for v in row if v > 0]
        tables.append([[v / mean(positive) for v in row] for row in d])
    return mean(huber(a - b) for r, q in zip(*tables) for a, b in zip(r, q))


def rkd_angle(student, teacher):
    def angles(x):
        for i in range(len(x)):
            e = [unit([b - a for a, b in zip(x[i], x[j])]) for j in range(len(x))]
            for j in range(len(x)):
                for k in range(len(x)):
                    yield dot(e[j], e[k])

    return mean(huber(a - b) for a, b in zip(angles(student), angles(teacher)))


def supcon(features, labels, temperature=0.07):
    views = [(view, label) for image, label in zip(features, labels) for view in image]
    losses = []
    for i, (z, y) in enumerate(views):
        others = [j for j in range(len(views)) if j != i]
        total = sum(math.exp(dot(z, views[j][0]) / temperature) for j in others)
        terms = [dot(z, views[j][0]) / temperature - math.log(total) for j in others if views[j][1] == y]
        losses.append(-mean(terms) if terms else 0.0)
    return mean(losses)


def npairs(embeddings, labels, temperature=0.05):
    z = [unit(row) for row in embeddings]
    losses = []
    for i in range(len(z)):
        p = softmax([dot(z[i], row) / temperature for row in z])
        losses.append(-mean(math.log(p[j]) for j in range(len(z)) if labels[j] == labels[i]))
    return mean(losses)


def nce(scores, n_positives, n_data):
    total = 0.0
    for row in scores:
        noise = (len(row) - n_positives) / n_data
        for x in row[:n_positives]:
            total += math.log(x / (x + noise + 1e-7))
        for x in row[n_positives:]:
            total += n_positives * math.log(noise / (x + noise + 1e-7))
    return -total / (len(scores) * n_positives)


def class_anchors(memory, labels, n_classes, rectify=True):
    anchors = []
    for c in range(n_classes):
        rows = [row for row, y in zip(memory, labels) if y == c]
        if rectify:
            rows = [[max(v, 0.0) for v in row] for row in rows]
        anchors.append([mean(column) for column in zip(*rows)] if rows else [0.0] * len(memory[0]))
    return anchors


def anchor_logits(z, anchors, temperature=0.07):
    return [[dot(row, unit(a)) / temperature for a in anchors] for row in z]


def crp(student, student_anchors, teacher, teacher_anchors, temperature=0.07):
    s = anchor_logits(student, student_anchors, temperature)
    t = anchor_logits(teacher, teacher_anchors, temperature)
    return [divergence(softmax(b), softmax(a)) for a, b in zip(s, t)]


def relation_matrix(z, anchors):
    return [softmax([dot(row, a) for a in anchors]) for row in z]


def cra(student, teacher, delta=1.0):
    n = len(student)

    def spread(x, p, q, r):
        u = unit([a - b for a, b in zip(x[p], x[q])])
        v = unit([a - b for a, b in zip(x[p], x[r])])
        return sum(huber(a - b, delta) for a, b in zip(u, v))

    return [
        mean(
            huber(spread(teacher, p, q, r) - spread(student, p, q, r), delta)
            for q in range(n)
            for r in range(n)
            if len({p, q, r}) == 3
        )
        for p in range(n)
    ]


def memory_scl(anchors, labels, batch, batch_labels, bank, bank_labels, temperature=0.07):
    losses = []
    for i, z in enumerate(anchors):
        positives = [p for p in range(len(batch)) if p != i and batch_labels[p] == labels[i]]
        negatives = [k for k in range(len(bank)) if bank_labels[k] != labels[i]]
        if not positives or not negatives:
            losses.append(0.0)
            continue
        total = math.log(sum(math.exp(dot(z, bank[k]) / temperature) for k in negatives))
        losses.append(-mean(dot(z, batch[p]) / temperature - total for p in positives))
    return losses


def view_similarity(features):
    upright = [row for i, row in enumerate(features) if i % 4 == 0]
    return [[dot(unit(row), unit(other)) for other in upright] for i, row in enumerate(features) if i % 4]


def keep_reliable(scores, target, keep_ratio):
    ranks = []
    for row, t in zip(scores, target):
        order = sorted(range(len(row)), key=lambda c: -row[c])
        ranks.append(order.index(t))
    right = [i for i, rank in enumerate(ranks) if rank == 0]
    wrong = sorted((i for i, rank in enumerate(ranks) if rank > 0), key=lambda i: ranks[i])
    return sorted(right + wrong[: int(keep_ratio * len(wrong))])


def channel_gram(student, teacher):
    """Maps as (B, F, s) lists."""
    total, count = 0.0, 0
    for a, t in zip(student, teacher):
        size = len(a) * len(a[0])
        for f in range(len(a)):
            for g in range(len(a)):
                total += ((dot(a[f], a[g]) - dot(t[f], t[g])) / size) ** 2
                count += 1
    return math.sqrt(total / count)


def hint(student, teacher):
    """Maps as (B, F, s) lists."""
    pairs = [(a, b) for x, y in zip(student, teacher) for p, q in zip(x, y) for a, b in zip(p, q)]
    return mean((a - b) ** 2 for a, b in pairs)


def at(student, teacher):
    """Maps as (B, F, s) lists."""
    squares = []
    for x, y in zip(student, teacher):
        q, r = (unit([sum(v * v for v in place) for place in zip(*channels)]) for channels in (x, y))
        squares += [(a - b) ** 2 for a, b in zip(q, r)]
    return mean(squares)


def hcl(student, teacher, height, width):
    """Maps as (B, F, h·w) lists."""

    def average(channel, side):
        parts = []
        for i in range(side):
            for j in range(side):
                rows = range(math.floor(i * height / side), math.ceil((i + 1) * height / side))
                columns = range(math.floor(j * width / side), math.ceil((j + 1) * width / side))
                parts.append(mean(channel[y * width + x] for y in rows for x in columns))
        return parts

    terms, weights = [hint(student, teacher)], [1.0]
    for side in (4, 2, 1):
        if side < height:
            pooled = [[[average(c, side) for c in image] for image in maps] for maps in (student, teacher)]
            terms.append(hint(*pooled))
            weights.append(weights[-1] / 2)
    return sum(w * v for w, v in zip(weights, terms)) / sum(weights)


def sp(student, teacher):
    """Maps as (B, F, s) lists."""
    grams = []
    for maps in (student, teacher):
        rows = [[v for channel in image for v in channel] for image in maps]
        grams.append([unit([dot(a, b) for b in rows]) for a in rows])
    return mean((a - b) ** 2 for x, y in zip(*grams) for a, b in zip(x, y))


def pkt(student, teacher, eps=1e-7):
    tables = []
    for rows in (student, teacher):
        scaled = [[v / (norm(row) + eps) for v in row] for row in rows]
        cosines = [[(dot(a, b) + 1) / 2 for b in scaled] for a in scaled]
        tables.append([[v / sum(row) for v in row] for row in cosines])
    p, q = tables
    return mean(b * math.log((b + eps) / (a + eps)) for x, y in zip(p, q) for a, b in zip(x, y))


def memory_scores(z, bank, index, temperature, n_data, normaliser=None):
    """Scores of one side of the contrast memory, and the normaliser they were divided by."""
    e = [[math.exp(dot(row, bank[k]) / temperature) for k in ks] for row, ks in zip(z, index)]
    if normaliser is None:
        normaliser = mean(v for row in e for v in row) * n_data
    return [[v / normaliser for v in row] for row in e], normaliser


def memory_update(bank, new, index, momentum):
    """The bank afterwards; of several entries for one row the last one wins."""
    after = [list(row) for row in bank]
    for row, i in zip(new, index):
        after[i] = unit([momentum * a + (1 - momentum) * b for a, b in zip(bank[i], row)])
    return after


def logit_adjusted_cross_entropy(logits, target, counts, tau=1.0):
    rows = []
    for row, y in zip(logits, target):
        p = softmax([v + tau * math.log(n / sum(counts)) for v, n in zip(row, counts)])
        rows.append(-math.log(p[y]))
    return rows


def balanced_softmax(logits, target, counts):
    rows = []
    for row, y in zip(logits, target):
        e = [n * math.exp(v) for v, n in zip(row, counts)]
        rows.append(-math.log(e[y] / sum(e)))
    return rows


def focal_factor(logits, target, gamma=2.0):
    return [(1 - softmax(row)[y]) ** gamma for row, y in zip(logits, target)]


def effective_number_weights(counts, beta=0.9999):
    weights = []
    for n in counts:
        effective = sum(beta**k for k in range(int(n)))  # what (1 − β^n)/(1 − β) sums to
        weights.append(1 / effective)
    return [w * len(counts) / sum(weights) for w in weights]


def ldam_logits(cosines, target, counts, max_margin=0.5, scale=30.0):
    raw = [1 / n**0.25 for n in counts]
    margins = [m * max_margin / max(raw) for m in raw]
    rows = [list(row) for row in cosines]
    for row, y in zip(rows, target):
        row[y] -= margins[y]
    return [[scale * v for v in row] for row in rows]


def target_class_kd(student, teacher, target, temperature=4.0):
    rows = []
    for s, t, y in zip(student, teacher, target):
        pairs = []
        for row in (t, s):
            p = softmax([v / temperature for v in row])
            pairs.append([p[y], sum(v for c, v in enumerate(p) if c != y)])
        rows.append(temperature**2 * divergence(*pairs))
    return rows


def other_class_kd(student, teacher, target, temperature=4.0):
    rows = []
    for s, t, y in zip(student, teacher, target):
        others = [softmax([v / temperature for c, v in enumerate(row) if c != y]) for row in (t, s)]
        rows.append(temperature**2 * divergence(*others))
    return rows


def standardize_logits(logits):
    rows = []
    for row in logits:
        m = mean(row)
        deviation = math.sqrt(sum((v - m) ** 2 for v in row) / (len(row) - 1))
        rows.append([(v - m) / (deviation + 1e-7) for v in row])
    return rows


def soft_cross_entropy(logits, soft_target):
    return [-sum(q * math.log(p) for q, p in zip(t, softmax(row))) for row, t in zip(logits, soft_target)]


def pearson(a, b):
    a, b = [v - mean(a) for v in a], [v - mean(b) for v in b]
    return dot(a, b) / (norm(a) * norm(b) + 1e-8)


def inter_class_distance(student, teacher, temperature=1.0):
    soft = [[softmax([v / temperature for v in row]) for row in x] for x in (student, teacher)]
    return temperature**2 * mean(1 - pearson(s, t) for s, t in zip(*soft))


def intra_class_distance(student, teacher, temperature=1.0):
    soft = [[softmax([v / temperature for v in row]) for row in x] for x in (student, teacher)]
    columns = [[[row[c] for row in x] for c in range(len(x[0]))] for x in soft]
    return temperature**2 * mean(1 - pearson(s, t) for s, t in zip(*columns))


def batch_relation(student, teacher, temperature=1.0):
    s, t = ([softmax([v / temperature for v in row]) for row in x] for x in (student, teacher))
    total = 0.0
    for i in range(len(s)):
        for j in range(len(s)):
            total += (dot(s[i], s[j]) - dot(t[i], t[j])) ** 2
    return total / len(s)


def class_relation(student, teacher, temperature=1.0):
    s, t = ([softmax([v / temperature for v in row]) for row in x] for x in (student, teacher))
    total = 0.0
    for c in range(len(s[0])):
        for d in range(len(s[0])):
            total += (sum(row[c] * row[d] for row in s) - sum(row[c] * row[d] for row in t)) ** 2
    return total / len(s[0])
