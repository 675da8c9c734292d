package s3

import (
	"encoding/base64"
	"encoding/binary"
)

// base64Of is a CRC32 as it stands in a header.
func base64Of(sum uint32) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
}
