"""Keyed random numbers: the n-th number of a key is a pure function of the two (Philox 4x32-10, Salmon et al. 2011).

A key is made from a seed by naming purposes and indices, so nothing here has a state.
"""

import numpy as np

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
WORD = (1 << 64) - 1
PURPOSE, INDEX = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03  # salts of the two ways to derive a key


def philox(counter, key):
    """counter: four arrays of 32-bit words, key: two words -> four arrays of 32-bit words."""
    a, b, c, d = (np.asarray(x, np.uint64) for x in counter)
    k, l = key
    for _ in range(ROUNDS):
        p, q = np.uint64(MULTIPLIERS[0]) * a, np.uint64(MULTIPLIERS[1]) * c
        a, b, c, d = (q >> HALF) ^ b ^ np.uint64(k), q & LOW, (p >> HALF) ^ d ^ np.uint64(l), p & LOW
        k, l = (k + WEYL[0]) & 0xFFFFFFFF, (l + WEYL[1]) & 0xFFFFFFFF
    return a, b, c, d


class Key:
    def __init__(self, high, low):
        self.high, self.low = high, low

    @staticmethod
    def of(seed):
        return Key(0, seed).index(seed)

    def purpose(self, name):
        """The name enters as its 64-bit FNV-1a hash."""
        h = 14695981039346656037
        for byte in name.encode():
            h = ((h ^ byte) * 1099511628211) & WORD
        return self._derive(h, PURPOSE)

    def index(self, *numbers):
        key = self
        for n in numbers:
            key = key._derive(n, INDEX)
        return key

    def _block(self, first, second):
        """The counter is 128 bits; the key's high half is folded into its upper part, the low half is Philox's key."""
        upper = second ^ self.high
        first = np.asarray(first, np.uint64)
        shape = np.zeros_like(first)
        counter = first & LOW, first >> HALF, shape + np.uint64(upper & 0xFFFFFFFF), shape + np.uint64(upper >> 32)
        return philox(counter, (self.low & 0xFFFFFFFF, self.low >> 32))

    def _derive(self, value, salt):
        a, b, c, d = (int(x) for x in self._block(value, salt))
        return Key(a << 32 | b, c << 32 | d)

    def uniform(self, n):
        """The n-th number in [0, 1), of 53 bits."""
        a, b, _, _ = (int(x) for x in self._block(n, 0))
        return ((a << 32 | b) >> 11) / (1 << 53)

    def below(self, n, limit):
        """The n-th whole number in [0, limit)."""
        return int(self.uniform(n) * limit)

    def normal(self, *shape):
        """Standard normal numbers (Box-Muller, cosine before sine), float32."""
        count = int(np.prod(shape))
        a, b, c, d = self._block(np.arange((count + 1) // 2, dtype=np.uint64), 1)
        bits = lambda high, low: ((high << np.uint64(21)) | (low >> np.uint64(11))).astype(np.float64)
        u, v = (bits(a, b) + 0.5) / (1 << 53), bits(c, d) / (1 << 53)
        radius = np.sqrt(-2 * np.log(u))
        both = np.stack([radius * np.cos(2 * np.pi * v), radius * np.sin(2 * np.pi * v)], 1)
        return both.reshape(-1)[:count].astype(np.float32).reshape(shape)

    def permutation(self, n):
        """Inside-out Fisher-Yates."""
        order = [0] * n
        for i in range(n):
            j = self.below(i, i + 1)
            order[i] = order[j]
            order[j] = i
        return order


# The first known answer that Random123 publishes for philox4x32-10.
assert [int(x) for x in philox((0, 0, 0, 0), (0, 0))] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
