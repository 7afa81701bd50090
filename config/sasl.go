package config

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// The supported SASL mechanisms.
const (
	MechanismPlain       = "PLAIN"
	MechanismScramSHA256 = "SCRAM-SHA-256"
	MechanismScramSHA512 = "SCRAM-SHA-512"
	MechanismOAuthBearer = "OAUTHBEARER"
	MechanismMSKIAM      = "AWS_MSK_IAM"
	MechanismGSSAPI      = "GSSAPI"
)

func mechanisms() []string {
	return []string{MechanismPlain, MechanismScramSHA256, MechanismScramSHA512, MechanismOAuthBearer, MechanismMSKIAM, MechanismGSSAPI}
}

// SASL is the authentication of one client. The mechanism decides which other keys are set.
type SASL struct {
	// Mechanism is PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER, AWS_MSK_IAM or GSSAPI.
	Mechanism string `koanf:"mechanism"`
	// Username and exactly one of Password and PasswordFile are for PLAIN and SCRAM.
	Username     string `koanf:"username"`
	Password     Secret `koanf:"password"`
	PasswordFile string `koanf:"password_file"`
	// OAuth is for OAUTHBEARER.
	OAuth *OAuth `koanf:"oauth"`
	// AWS is for AWS_MSK_IAM. nil leaves everything to the defaults of AWS's SDK.
	AWS *AWS `koanf:"aws"`
	// Kerberos is for GSSAPI.
	Kerberos *Kerberos `koanf:"kerberos"`
}

// Kerberos says where the tickets of GSSAPI come from: a keytab, with which they are asked for, or a ticket cache that something else renews.
type Kerberos struct {
	// Principal is that of the keys in Keytab, with its realm; without one, the default realm of Krb5Conf is meant.
	Principal string `koanf:"principal"`
	Keytab    string `koanf:"keytab"`
	// TicketCache is a file.
	TicketCache string `koanf:"ticket_cache"`
	// ServiceName is the first part of the brokers' principals.
	ServiceName string `koanf:"service_name"`
	// Krb5Conf is the file with the KDCs of each realm.
	Krb5Conf string `koanf:"krb5_conf"`
}

// AWS says where the credentials of AWS_MSK_IAM come from. What is empty comes from where AWS's SDK looks for it: the environment, files, web
// identity (IRSA), pod identity, the instance profile.
type AWS struct {
	// Region is used where the names of the brokers do not have it, and to assume the role.
	Region  string `koanf:"region"`
	Profile string `koanf:"profile"`
	// RoleARN is a role that is assumed with these credentials. RoleSessionName is milena if empty.
	RoleARN         string `koanf:"role_arn"`
	RoleSessionName string `koanf:"role_session_name"`
}

// OAuth says where the tokens of OAUTHBEARER come from: from TokenFile or from TokenEndpoint.
//
// The token endpoint knows the client by ClientID and ClientSecret or ClientSecretFile (client credentials, RFC 6749 section 4.4), by ClientID
// and the JWT in AssertionFile (RFC 7523 section 2.2), or by that JWT alone (the JWT bearer grant, RFC 7523 section 2.1).
type OAuth struct {
	// TokenEndpoint is the URL of the token endpoint.
	TokenEndpoint    string `koanf:"token_endpoint"`
	ClientID         string `koanf:"client_id"`
	ClientSecret     Secret `koanf:"client_secret"`
	ClientSecretFile string `koanf:"client_secret_file"`
	AssertionFile    string `koanf:"assertion_file"`
	// Scope is what is asked for, words with spaces between them.
	Scope string `koanf:"scope"`
	// CAFile holds the CAs that may sign the endpoint's certificate. If empty, the system's CAs are trusted.
	CAFile string `koanf:"ca_file"`
	// TokenFile holds a token that something else renews.
	TokenFile string `koanf:"token_file"`
	// Extensions are sent to the broker with the token (KIP-342).
	Extensions map[string]string `koanf:"extensions"`
}

// Format prints the fields with the password hidden. It is needed because fmt, given a pointer inside another value
// and a verb like %s, reports a bad verb and prints the pointed-to value without calling the methods of its fields.
func (s SASL) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "{%s %s %s %s", s.Mechanism, s.Username, hidden, s.PasswordFile)
	if s.OAuth != nil {
		_, _ = fmt.Fprintf(f, " %v", *s.OAuth)
	}
	if s.AWS != nil {
		_, _ = fmt.Fprintf(f, " %v", *s.AWS)
	}
	if s.Kerberos != nil {
		_, _ = fmt.Fprintf(f, " %v", *s.Kerberos)
	}
	_, _ = fmt.Fprint(f, "}")
}

// Format prints the fields without secrets, for the same reason as SASL.Format.
func (o OAuth) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "{%s %s %s %s %s %s %s %s %v}",
		o.TokenEndpoint, o.ClientID, hidden, o.ClientSecretFile, o.AssertionFile, o.Scope, o.CAFile, o.TokenFile, o.Extensions)
}

// Secret returns the password, from the config or from the file. The file is read on each call, so the next
// connection uses a changed password. One trailing newline, which editors add, is removed. The error is that of
// reading the file.
func (s SASL) Secret() (string, error) { return readSecret(s.Password, s.PasswordFile) }

// Secret returns the client secret, from the config or from the file, as SASL.Secret does.
func (o OAuth) Secret() (string, error) { return readSecret(o.ClientSecret, o.ClientSecretFile) }

func (s *SASL) validate(path string, found *problemList) {
	found.oneOf(path+".mechanism", s.Mechanism, mechanisms()...)
	others := []string{MechanismOAuthBearer, MechanismMSKIAM, MechanismGSSAPI}
	switch {
	case !slices.Contains(others, s.Mechanism):
		s.validatePassword(path, found)
	case s.Username != "" || s.Password != "" || s.PasswordFile != "":
		found.add(path, "username, password and password_file are not for %s; remove them", s.Mechanism)
	}
	switch {
	case s.Mechanism == MechanismOAuthBearer && s.OAuth == nil:
		found.add(path+".oauth", "is missing; set oauth: {token_endpoint: URL, client_id: ID, client_secret_file: PATH}, or oauth: {token_file: PATH}")
	case s.Mechanism == MechanismOAuthBearer:
		s.OAuth.validate(path+".oauth", found)
	case s.OAuth != nil:
		found.add(path+".oauth", "is for %s only; remove it, or set mechanism: %s", MechanismOAuthBearer, MechanismOAuthBearer)
	}
	switch {
	case s.AWS != nil && s.Mechanism != MechanismMSKIAM:
		found.add(path+".aws", "is for %s only; remove it, or set mechanism: %s", MechanismMSKIAM, MechanismMSKIAM)
	case s.AWS != nil:
		s.AWS.validate(path+".aws", found)
	}
	switch {
	case s.Mechanism == MechanismGSSAPI && s.Kerberos == nil:
		found.add(path+".kerberos", "is missing; set kerberos: {principal: NAME@REALM, keytab: PATH}, or kerberos: {ticket_cache: PATH}")
	case s.Mechanism == MechanismGSSAPI:
		s.Kerberos.validate(path+".kerberos", found)
	case s.Kerberos != nil:
		found.add(path+".kerberos", "is for %s only; remove it, or set mechanism: %s", MechanismGSSAPI, MechanismGSSAPI)
	}
}

func (k *Kerberos) validate(path string, found *problemList) {
	switch {
	case k.Keytab == "" && k.TicketCache == "":
		found.add(path+".keytab", "is missing; set keytab and principal, or ticket_cache")
	case k.Keytab != "" && k.TicketCache != "":
		found.add(path, "keytab and ticket_cache are both set; keep one")
	case k.Keytab != "" && k.Principal == "":
		found.add(path+".principal", "is missing; set it to NAME@REALM, as klist -k shows it")
	case k.TicketCache != "" && k.Principal != "":
		found.add(path+".principal", "is that of the ticket cache; remove it")
	}
	for _, needed := range []struct{ key, value string }{{"service_name", k.ServiceName}, {"krb5_conf", k.Krb5Conf}} {
		if needed.value == "" {
			found.add(path+"."+needed.key, "is empty; remove the key to use the default")
		}
	}
}

func (a *AWS) validate(path string, found *problemList) {
	switch {
	case a.RoleARN == "" && a.RoleSessionName != "":
		found.add(path+".role_session_name", "is set without role_arn; remove it, or set role_arn")
	case a.RoleARN != "" && !strings.HasPrefix(a.RoleARN, "arn:"):
		found.add(path+".role_arn", "%q is not the ARN of a role; use one such as arn:aws:iam::111122223333:role/milena", a.RoleARN)
	}
}

func (s *SASL) validatePassword(path string, found *problemList) {
	if s.Username == "" {
		found.add(path+".username", "is missing or empty")
	}
	switch {
	case s.Password == "" && s.PasswordFile == "":
		found.add(path+".password", "is missing; set password: ${NAME} or password_file: PATH")
	case s.Password != "" && s.PasswordFile != "":
		found.add(path, "password and password_file are both set; keep one")
	}
}

func (o *OAuth) validate(path string, found *problemList) {
	switch {
	case o.TokenEndpoint == "" && o.TokenFile == "":
		found.add(path+".token_endpoint", "is missing; set it to the URL of the token endpoint, or set token_file")
	case o.TokenEndpoint == "" && (o.ClientID != "" || o.ClientSecret != "" || o.ClientSecretFile != "" || o.AssertionFile != "" || o.Scope != "" || o.CAFile != ""),
		o.TokenEndpoint != "" && o.TokenFile != "":
		found.add(path, "the token comes from token_file or from a token endpoint, and keys of both are set; keep token_file (and extensions) alone, or remove it")
	case o.TokenEndpoint != "":
		o.validateEndpoint(path, found)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Extensions)) {
		switch {
		case !extensionName.MatchString(name) || name == "auth":
			found.add(path+".extensions", "%q is not the name of an extension, which has letters only and is not auth; rename it", name)
		case !extensionValue.MatchString(o.Extensions[name]):
			found.add(path+".extensions."+name, "is empty or has a character that is not ASCII; brokers refuse that")
		}
	}
}

// The names and values of extensions, as RFC 7628 section 3.1 and Kafka allow them.
var (
	extensionName  = regexp.MustCompile(`^[A-Za-z]+$`)
	extensionValue = regexp.MustCompile(`^[\x21-\x7E \t\r\n]+$`)
)

func (o *OAuth) validateEndpoint(path string, found *problemList) {
	if u, err := url.Parse(o.TokenEndpoint); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		found.add(path+".token_endpoint", "is not a URL; use one such as https://login.example.com/oauth2/token")
	}
	proofs := 0
	for _, is := range []bool{o.ClientSecret != "", o.ClientSecretFile != "", o.AssertionFile != ""} {
		if is {
			proofs++
		}
	}
	switch {
	case proofs == 0:
		found.add(path+".client_secret", "is missing; set client_secret: ${NAME}, client_secret_file: PATH or assertion_file: PATH")
	case proofs > 1:
		found.add(path, "more than one of client_secret, client_secret_file and assertion_file are set; keep one")
	case o.ClientID == "" && o.AssertionFile == "":
		found.add(path+".client_id", "is missing or empty")
	}
}
