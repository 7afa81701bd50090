package client

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/milena-kafka/milena/config"
)

// saslMechanism reads the password at each authentication, so that the next connection, or a re-authentication (KIP-368), uses a rotated
// password file.
func saslMechanism(c config.SASL) (sasl.Mechanism, error) {
	if _, err := saslPassword(c); err != nil {
		return nil, err
	}
	scramAuth := func(context.Context) (scram.Auth, error) {
		password, err := saslPassword(c)
		return scram.Auth{User: c.Username, Pass: password}, err
	}
	switch c.Mechanism {
	case config.MechanismPlain:
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			password, err := saslPassword(c)
			return plain.Auth{User: c.Username, Pass: password}, err
		}), nil
	case config.MechanismScramSHA256:
		return scram.Sha256(scramAuth), nil
	case config.MechanismScramSHA512:
		return scram.Sha512(scramAuth), nil
	default:
		return nil, fmt.Errorf("sasl.mechanism: %q is not PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", c.Mechanism)
	}
}

// saslPassword returns the password. It rejects an empty file here, where the name of the file is known: kgo would only report a missing
// password.
func saslPassword(c config.SASL) (string, error) {
	password, err := c.Secret()
	switch {
	case err != nil:
		return "", fmt.Errorf("sasl.password_file: %w", err)
	case password == "" && c.PasswordFile != "":
		return "", fmt.Errorf("sasl.password_file: %s is empty", c.PasswordFile)
	}
	return password, nil
}
