package recordbatch

// ValidCRC reports whether the checksum of a batch of any format matches its bytes.
func ValidCRC(batch []byte) bool {
	if len(batch) < logOverhead+minLengthV0 || (batch[offsetOfMagic] >= 2 && len(batch) < HeaderSize) {
		return false
	}
	return verify(batch, Header{}) == nil
}
