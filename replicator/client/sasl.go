package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/milena-kafka/milena/config"
)

// login returns the mechanism of a cluster. All clients that share dials share it, and with it the token that it keeps.
func (l *Dials) login(c config.SASL) (sasl.Mechanism, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mechanism != nil {
		return l.mechanism, nil
	}
	var err error
	l.mechanism, err = saslMechanism(c)
	return l.mechanism, err
}

// saslMechanism returns a mechanism that reads passwords, secrets and tokens at each authentication, so that the next connection, or a
// re-authentication (KIP-368), uses a rotated file.
func saslMechanism(c config.SASL) (sasl.Mechanism, error) {
	switch c.Mechanism {
	case config.MechanismPlain, config.MechanismScramSHA256, config.MechanismScramSHA512:
		return passwordMechanism(c)
	case config.MechanismOAuthBearer:
		if c.OAuth == nil {
			return nil, errors.New("sasl.oauth: is missing")
		}
		return newBearer(*c.OAuth), nil
	case config.MechanismGSSAPI:
		if c.Kerberos == nil {
			return nil, errors.New("sasl.kerberos: is missing")
		}
		return gssapi{*c.Kerberos, kerberosTimeout}, nil
	case config.MechanismMSKIAM:
		m := new(mskIAM)
		if c.AWS != nil {
			m.config = *c.AWS
		}
		return m, nil
	default:
		return nil, fmt.Errorf("sasl.mechanism: %q is not a mechanism that milena supports", c.Mechanism)
	}
}

// passwordMechanism checks that there is a password.
func passwordMechanism(c config.SASL) (sasl.Mechanism, error) {
	if _, err := saslPassword(c); err != nil {
		return nil, err
	}
	scramAuth := func(context.Context) (scram.Auth, error) {
		password, err := saslPassword(c)
		return scram.Auth{User: c.Username, Pass: password}, err
	}
	switch c.Mechanism {
	case config.MechanismScramSHA256:
		return scram.Sha256(scramAuth), nil
	case config.MechanismScramSHA512:
		return scram.Sha512(scramAuth), nil
	default:
		return plain.Plain(func(context.Context) (plain.Auth, error) {
			password, err := saslPassword(c)
			return plain.Auth{User: c.Username, Pass: password}, err
		}), nil
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
