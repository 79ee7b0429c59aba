#!/usr/bin/env python3
"""nan_model.py IN OUT TENSOR: the same GGUF with NaN as the first value of a float32 tensor."""
import struct
import sys

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
data, at = bytearray(open(sys.argv[1], "rb").read()), 8


def take(form):
	global at
	values = struct.unpack_from("<" + form, data, at)
	at += struct.calcsize("<" + form)
	return values


def text():
	global at
	n, = take("Q")
	at += n
	return bytes(data[at - n:at]).decode("utf-8", "replace")


def skip(kind):
	global at
	if kind == 8:
		text()
	elif kind == 9:
		element, n = take("IQ")
		for _ in range(n):
			skip(element)
	else:
		at += SIZES[kind]


n_tensors, n_keys = take("QQ")
for _ in range(n_keys):
	text()
	skip(take("I")[0])
offsets = {}
for _ in range(n_tensors):
	name = text()
	take("Q" * take("I")[0])
	offsets[name] = take("IQ")[1]
struct.pack_into("<f", data, (at + 31) // 32 * 32 + offsets[sys.argv[3]], float("nan"))
open(sys.argv[2], "wb").write(data)
