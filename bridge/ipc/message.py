"""PURE. The envelope of everything that travels through a queue: one fixed header, descriptors, inline bytes.

    offset  size  field
    0       8     stream       slot (low 32 bits) and generation (high 32 bits) of the tracking word; 0 = none
    8       1     kind         one of the constants below
    9       1     flags        LAST, DATE, SERVER, ACK, EXPECT, FILE, LINKED
    10      2     descriptors  how many 12-byte descriptors follow the header
    12      4     length       inline bytes that follow the descriptors
    16      8     size         REQUEST, RESPONSE: Content-Length or UNKNOWN · WANT, WINDOW: bytes · BODY, DATA: below
    24      4     number       REQUEST: version, scheme, upgrade, way · RESPONSE: status · else what its kind says
    28      4     head         REQUEST, RESPONSE: bytes of the head, at the front of the payload

The payload of a message is its inline bytes, followed by the bytes of its descriptors in order. A REQUEST and a
RESPONSE start with `head` bytes of head; what follows the head is the beginning of the body. A head that does not
fit inline travels in descriptors, with no inline bytes; where there are no chunks for it, it travels over the link
(`record`): a RESPONSE as a whole, of a REQUEST the head alone, when the worker that has claimed it asks (HEAD).

A REQUEST with UPGRADE asks for a WebSocket and never has LAST. Answered with RESPONSE 101 it is a *tunnel*: BODY and
DATA are the bytes behind the two heads as they come, frames and all. BODY with LAST is the client's FIN, DATA with LAST
ends the connection, and so does ABORT. In both directions at most `http.websocket.window` bytes are under way, which
come back with WANT and WINDOW, or in `size` of a BODY and DATA that go there anyway. Any other answer is an ordinary
response, and of the client nothing follows.

Every claimed stream ends with exactly one message from the worker that carries LAST or is an ABORT, also when the
stream was cancelled: only then is the worker done with it, and its number may be used again.
"""

from __future__ import annotations

from struct import Struct

HEADER = Struct("<QBBHIQII")
DESCRIPTOR = Struct("<III")  #: segment id, first chunk, bytes
PART = Struct("<QQ")  #: payload of DATA with FILE: offset, bytes

STREAM_BITS = 32
UNKNOWN = (1 << 64) - 1  #: `size` of a body whose length was not announced

# router → worker
REQUEST = 1  #: through the application queue; flags LAST (no more body), EXPECT (client waits for 100)
BODY = 2  #: more request body; LAST ends it
CANCEL = 3  #: nobody waits for this stream any more
WINDOW = 4  #: `size` bytes of the response have left for the client
LEAVE = 5  #: the router ends: what runs as a tunnel is to come to its end now
# worker → router
RESPONSE = 16  #: response head, and body as far as it fits
DATA = 17  #: more response body; LAST ends it
WANT = 18  #: the application reads: `size` bytes of request body were consumed since the last WANT
ABORT = 19  #: the response cannot be completed: the client must see it broken
TAKEN = 20  #: the request head was copied out of its chunks; in a tunnel, the oldest BODY that had some
BATON = 21  #: work is left in the application's queue: ring its sleeper `number`
SEGMENT = 22  #: a message has named segment `number`, which is not known here: send it over the link
# both ways
HEAD = 23  #: from the worker: send the head of this REQUEST, which was LINKED; to the worker: here it is
RECORD = 30  #: the message that has come over the link in record `number` has its place here

LAST = 1  #: nothing follows in this direction of the stream
DATE = 2  #: the response head holds a Date field
SERVER = 4  #: the response head holds a Server field
ACK = 8  #: answer with WINDOW when the bytes so far have left
EXPECT = 16  #: the client sent Expect: 100-continue and still waits
FILE = 32  #: the body lies in a file: of a REQUEST, `size` bytes, for a WANT; of BODY and DATA, one that comes along
LINKED = 64  #: the head of this REQUEST is neither inline nor in chunks

HTTP_1_0 = 1  #: bit in `number` of a REQUEST: version 1.0, else 1.1
HTTPS = 2  #: bit in `number` of a REQUEST: scheme https, else http
UPGRADE = 4  #: bit in `number` of a REQUEST: it opens a WebSocket, and its handshake is right (RFC 6455, section 4.2.1)
WAY = 8  #: first bit of the number of the prefix that has led a REQUEST to its application (`config.Application.way`)

MAX_DESCRIPTORS = 64  #: more than that is refused: a message is bounded whatever its writer says
