"""A judge that reads pixels: is a generated picture nearer to the right or to the superficial drawing of its row?"""
import numpy as np

SURE = 0.2
REACH, EDGE = 3, 1  # shifts tried and pixels added round the subject's box, at half the picture's side


def half(picture):
    h, w, c = picture.shape
    return picture.astype(np.float32).reshape(h // 2, 2, w // 2, 2, c).mean((1, 3))


class Judge:
    def __init__(self, row, right, wrong):
        right, wrong = half(right), half(wrong)
        side = len(right)
        cx, cy, w, h = (v * side for v in row["box"])
        low = lambda v: max(0, int(v) - EDGE)
        high = lambda v: min(side, int(np.ceil(v)) + EDGE)
        self.box = slice(low(cy - h / 2), high(cy + h / 2)), slice(low(cx - w / 2), high(cx + w / 2))
        self.right, self.wrong = self.shifted(right), self.shifted(wrong)
        self.gap = max(1e-3, np.abs(right[self.box] - wrong[self.box]).mean())

    def shifted(self, picture):
        wide = np.pad(picture, ((REACH, REACH), (REACH, REACH), (0, 0)), mode="edge")
        side, steps = len(picture), range(2 * REACH + 1)
        return np.stack([wide[y:y + side, x:x + side][self.box] for y in steps for x in steps])

    def margin(self, picture):
        """About +1 for a right picture, -1 for a superficial one."""
        x = half(picture)[self.box]
        nearest = lambda shots: np.abs(shots - x).mean((1, 2, 3)).min()
        return float((nearest(self.wrong) - nearest(self.right)) / self.gap)


def verdicts(split, index, pictures):
    """For every picture its row's verdict: margins, and +1 right, -1 superficial, 0 neither."""
    judges, m = {}, []
    for i, p in zip(index, pictures):
        if i not in judges:
            judges[i] = Judge(split.rows[i], split.right[i], split.wrong[i])
        m.append(judges[i].margin(p))
    m = np.array(m)
    return m, np.where(m > SURE, 1, np.where(m < -SURE, -1, 0))
