"""A GGUF file in pieces that tests change and write again: metadata, tensor heads, data."""
import math
import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
SCALARS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B",
           U64: "Q", I64: "q", F64: "d"}
WEIGHT_F32, WEIGHT_F16, WEIGHT_BF16 = 0, 1, 30
# elements and bytes of a block, by the types' numbers
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
          11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 30: (1, 2), 34: (256, 54), 35: (256, 66)}


WEIGHT_I2_S = 36


def weight_bytes(kind, dims):
    if kind == WEIGHT_I2_S:     # a scale, and bytes without meaning, behind the tensor
        return math.prod(dims) // 4 + 32
    elements, size = BLOCKS[kind]
    return math.prod(dims) // elements * size


class Model:
    def __init__(self, path):
        b = open(path, "rb").read()
        self.at, self.b = 8, b
        n_tensors, n_kv = self.take("QQ")
        self.kv, self.tensors = {}, []
        for _ in range(n_kv):
            key, kind = self.text(), self.take("I")[0]
            self.kv[key.decode()] = (kind, self.value(kind))
        for _ in range(n_tensors):
            name, n = self.text(), self.take("I")[0]
            dims = list(self.take("%dQ" % n))
            self.tensors.append([name, dims, *self.take("IQ")])
        self.data = b[(self.at + 31) // 32 * 32:]
        self.version, self.n_kv, self.n_tensors, self.alignment = 3, None, None, 32

    def take(self, form):
        v = struct.unpack_from("<" + form, self.b, self.at)
        self.at += struct.calcsize("<" + form)
        return v

    def text(self):
        n = self.take("Q")[0]
        self.at += n
        return self.b[self.at - n:self.at]

    def value(self, kind):
        if kind == STR:
            return self.text()
        if kind != ARR:
            return self.take(SCALARS[kind])[0]
        elem, n = self.take("IQ")
        if elem == STR:
            return [elem, [self.text() for _ in range(n)]]
        return [elem, list(self.take("%d%s" % (n, SCALARS[elem])))]

    def tensor(self, name):
        return next(t for t in self.tensors if t[0] == name.encode())

    def pack_value(self, kind, v):
        if kind == STR:
            return struct.pack("<Q", len(v)) + v
        if kind != ARR:
            return struct.pack("<" + SCALARS[kind], v)
        return struct.pack("<IQ", v[0], len(v[1])) + b"".join(self.pack_value(v[0], x) for x in v[1])

    def bytes(self):
        out = b"GGUF" + struct.pack("<IQQ", self.version,
                                    len(self.tensors) if self.n_tensors is None else self.n_tensors,
                                    len(self.kv) if self.n_kv is None else self.n_kv)
        for key, (kind, v) in self.kv.items():
            out += self.pack_value(STR, key.encode("utf-8", "surrogateescape").rstrip(b"\1"))
            out += struct.pack("<I", kind) + self.pack_value(kind, v)
        for name, dims, kind, offset in self.tensors:
            out += self.pack_value(STR, name) + struct.pack("<I", len(dims))
            out += struct.pack("<%dQ" % len(dims), *dims) + struct.pack("<IQ", kind, offset)
        return out + b"\0" * (-len(out) % self.alignment) + self.data

    def payload(self, name):
        """The bytes of a tensor."""
        _, dims, kind, offset = self.tensor(name)
        return self.data[offset:offset + weight_bytes(kind, dims)]

    def place(self, tensors):
        """These (name, dims, type, bytes) become the tensors, one behind the other."""
        self.tensors, self.data = [], b""
        for name, dims, kind, payload in tensors:
            assert len(payload) == weight_bytes(kind, dims), name
            self.tensors.append([name, list(dims), kind, len(self.data)])
            self.data += payload + b"\0" * (-len(payload) % self.alignment)

    def pieces(self):
        """What place() takes, of the tensors as they are."""
        return [(n, d, k, self.data[o:o + weight_bytes(k, d)]) for n, d, k, o in self.tensors]
