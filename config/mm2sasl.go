package config

import (
	"net/url"
	"slices"
	"strings"
)

// The Java classes of logins that milena has an equivalent of.
const (
	plainModule  = "org.apache.kafka.common.security.plain.PlainLoginModule"
	scramModule  = "org.apache.kafka.common.security.scram.ScramLoginModule"
	mskModule    = "software.amazon.msk.auth.iam.IAMLoginModule"
	bearerModule = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule"

	bearerHandler        = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler"
	bearerHandlerBefore4 = "org.apache.kafka.common.security.oauthbearer.secured.OAuthBearerLoginCallbackHandler"
	bearerClientHandler  = "org.apache.kafka.common.security.oauthbearer.internals.OAuthBearerSaslClientCallbackHandler"
	mskHandler           = "software.amazon.msk.auth.iam.IAMClientCallbackHandler"
	mskBearerHandler     = "software.amazon.msk.auth.iam.IAMOAuthBearerLoginCallbackHandler"
	strimziHandler       = "io.strimzi.kafka.oauth.client.JaasClientOauthLoginCallbackHandler"
)

// mechanismOfJava is that of a client without sasl.mechanism.
const mechanismOfJava = "GSSAPI"

// sasl reads the login of one cluster.
func (m *mm2) sasl(alias string, get lookup) *SASL {
	s, named := &SASL{Mechanism: mechanismOfJava}, get("sasl.mechanism", "sasl.mechanism")
	if named != nil {
		value, ok := m.value(named)
		if !ok {
			return s
		}
		s.Mechanism = strings.TrimSpace(value)
	}
	use := "use " + choice(mechanisms())
	switch {
	case named == nil:
		p := m.first(alias+".security.protocol", "security.protocol")
		m.bad(p, "without %s.sasl.mechanism means GSSAPI (Kerberos), which milena does not support; %s", alias, use)
		return s
	case !slices.Contains(mechanisms(), s.Mechanism):
		m.bad(named, "is a mechanism that milena does not support; %s", use)
		return s
	}
	p := get("sasl", "sasl.jaas.config")
	if p == nil {
		m.bad(named, "needs %s.sasl.jaas.config with %s", alias, loginOf(s.Mechanism))
		return s
	}
	j, ok := m.newJAAS(alias, p)
	if !ok {
		return s
	}
	switch s.Mechanism {
	case MechanismOAuthBearer:
		j.oauth(s, get)
	case MechanismMSKIAM:
		j.mskIAM(s, get)
	default:
		for _, key := range []string{"sasl.client.callback.handler.class", "sasl.login.class", "sasl.login.callback.handler.class"} {
			if p := get("", key); p != nil {
				m.bad(p, "is Java code, which milena cannot run; set username and password in sasl.jaas.config and remove the key")
			}
		}
		j.password(s)
	}
	return s
}

// loginOf says what a JAAS config must have.
func loginOf(mechanism string) string {
	switch mechanism {
	case MechanismOAuthBearer:
		return bearerModule + ` required clientId="ID" clientSecret="SECRET";`
	case MechanismMSKIAM:
		return mskModule + " required;"
	default:
		return "a username and a password"
	}
}

// noJavaCode reports a class that is not one of those that milena has an equivalent of.
func (j *jaas) noJavaCode(get lookup, key string, known ...string) {
	if p := get("", key); p != nil && !slices.Contains(known, strings.TrimSpace(p.value)) {
		j.bad(p, "is Java code, which milena cannot run; remove the key")
	}
}

// mskIAM reads the login of AWS_MSK_IAM.
func (j *jaas) mskIAM(s *SASL, get lookup) {
	j.noJavaCode(get, "sasl.login.class")
	j.noJavaCode(get, "sasl.login.callback.handler.class")
	j.noJavaCode(get, "sasl.client.callback.handler.class", mskHandler)
	if !j.of(mskModule) {
		return
	}
	a := AWS{
		Region: j.option("awsStsRegion"), Profile: j.option("awsProfileName"),
		RoleARN: j.option("awsRoleArn"), RoleSessionName: j.option("awsRoleSessionName"),
	}
	j.ignore("awsDebugCreds", "awsMaxRetries", "awsMaxBackOffTimeMs")
	j.refuseRest("awsProfileName, awsRoleArn, awsRoleSessionName and awsStsRegion; credentials and an external id belong into a profile of AWS")
	if a != (AWS{}) {
		s.AWS = &a
	}
}

// oauth reads the login of OAUTHBEARER.
func (j *jaas) oauth(s *SASL, get lookup) {
	const use = "use " + bearerHandler + " with sasl.oauthbearer.token.endpoint.url"
	j.noJavaCode(get, "sasl.login.class")
	j.noJavaCode(get, "sasl.client.callback.handler.class", bearerClientHandler)
	handler := get("", "sasl.login.callback.handler.class")
	if !j.of(bearerModule) {
		return
	}
	if handler == nil {
		j.bad(get("", "sasl.mechanism"), "without sasl.login.callback.handler.class means tokens that nobody has signed, which are for tests; %s", use)
		return
	}
	class, ok := j.value(handler)
	if !ok {
		return
	}
	s.OAuth = new(OAuth)
	switch strings.TrimSpace(class) {
	case bearerHandler, bearerHandlerBefore4:
		j.kafkaOAuth(s.OAuth, get)
	case strimziHandler:
		j.strimziOAuth(s.OAuth)
	case mskBearerHandler:
		j.bad(handler, "makes tokens for MSK, which milena does not; set sasl.mechanism = %s, and sasl.jaas.config to %s required;", MechanismMSKIAM, mskModule)
	default:
		j.bad(handler, "is Java code, which milena cannot run; %s", use)
	}
}

// kafkaOAuth reads the keys of Kafka's own login handler: options of the login module, or keys of their own since Kafka 4.1 (KIP-1139).
func (j *jaas) kafkaOAuth(o *OAuth, get lookup) {
	for name := range j.options {
		if extension, ok := strings.CutPrefix(name, "extension_"); ok {
			j.extension(o, extension, name)
		}
	}
	if p := get("", "sasl.oauthbearer.assertion.private.key.file"); p != nil {
		j.bad(p, "is a key to sign assertions with, which milena does not do; let something write signed ones and set sasl.oauthbearer.assertion.file, or use a client secret")
		return
	}
	endpoint := get("sasl.oauth.token_endpoint", "sasl.oauthbearer.token.endpoint.url")
	if endpoint == nil {
		j.bad(get("", "sasl.mechanism"), "needs %s.sasl.oauthbearer.token.endpoint.url, the URL of the token endpoint; set it", j.alias)
		return
	}
	text, ok := j.value(endpoint)
	if !ok {
		return
	}
	o.ClientID = j.either(get, "client_id", "sasl.oauthbearer.client.credentials.client.id", "clientId")
	o.Scope = j.either(get, "scope", "sasl.oauthbearer.scope", "scope")
	o.AssertionFile = j.either(get, "assertion_file", "sasl.oauthbearer.assertion.file", "")
	secret := get("", "sasl.oauthbearer.client.credentials.client.secret")
	j.ignore("clientSecret")
	j.truststoreOption(o, "ssl.truststore.")
	j.refuseRest("clientId, clientSecret, scope, extension_NAME and ssl.truststore.location")
	if isJWTBearer, ok := j.retriever(get); !ok {
		return
	} else if isJWTBearer {
		o.ClientID = "" // the assertion alone is exchanged for a token
	}
	if u, err := url.Parse(strings.TrimSpace(text)); err == nil && u.Scheme == "file" { // Java ignores the client of a file
		*o = OAuth{TokenFile: u.Path, Extensions: o.Extensions}
		return
	}
	o.TokenEndpoint = strings.TrimSpace(text)
	switch {
	case o.AssertionFile != "": // goes before a secret (KIP-1258)
		return
	case secret != nil:
		j.origins["clusters."+j.alias+".sasl.oauth.client_secret"] = secret
		o.ClientSecret, o.ClientSecretFile = j.secretOf(j.alias, "sasl.oauth.client_secret", secret)
	default:
		o.ClientSecret, o.ClientSecretFile = j.secretOption("sasl.oauth.client_secret", "clientSecret")
	}
	j.needClient(o, "clientId", "clientSecret")
}

// retriever reads what makes tokens since Kafka 4.1, and whether that is the JWT bearer grant, which has no client. If ok is false, the problem has been
// reported.
func (j *jaas) retriever(get lookup) (isJWTBearer, ok bool) {
	const classes = "org.apache.kafka.common.security.oauthbearer."
	p := get("", "sasl.oauthbearer.jwt.retriever.class")
	if p == nil {
		return false, true
	}
	switch strings.TrimSpace(p.value) {
	case classes + "DefaultJwtRetriever", classes + "ClientCredentialsJwtRetriever", classes + "FileJwtRetriever":
		return false, true
	case classes + "JwtBearerJwtRetriever":
		if get("", "sasl.oauthbearer.assertion.file") != nil {
			return true, true
		}
		j.bad(p, "needs sasl.oauthbearer.assertion.file, a file with a signed JWT; set it")
	default:
		j.bad(p, "is Java code, which milena cannot run; remove the key, or use %sDefaultJwtRetriever", classes)
	}
	return false, false
}

// strimziOAuth reads the options of Strimzi's login handler.
func (j *jaas) strimziOAuth(o *OAuth) {
	for name := range j.options {
		if extension, ok := strings.CutPrefix(name, "oauth.sasl.extension."); ok {
			j.extension(o, extension, name)
		}
	}
	o.TokenFile, o.TokenEndpoint = j.option("oauth.access.token.location"), j.option("oauth.token.endpoint.uri")
	o.ClientID, o.Scope = j.option("oauth.client.id"), j.option("oauth.scope")
	o.AssertionFile = j.option("oauth.client.assertion.location")
	j.ignore("oauth.client.secret")
	j.truststoreOption(o, "oauth.ssl.truststore.")
	j.refuseRest("oauth.token.endpoint.uri, oauth.client.id, oauth.client.secret, oauth.scope, oauth.access.token.location, " +
		"oauth.client.assertion.location, oauth.sasl.extension.NAME and oauth.ssl.truststore.location")
	switch {
	case o.TokenFile != "": // it goes before everything else
		*o = OAuth{TokenFile: o.TokenFile, Extensions: o.Extensions}
	case o.TokenEndpoint == "":
		j.bad(j.property, "has no oauth.token.endpoint.uri, the URL of the token endpoint; add it")
	case o.AssertionFile == "":
		o.ClientSecret, o.ClientSecretFile = j.secretOption("sasl.oauth.client_secret", "oauth.client.secret")
		j.needClient(o, "oauth.client.id", "oauth.client.secret")
	}
}

// either is a key of its own, or else an option of the login module.
func (j *jaas) either(get lookup, field, key, option string) string {
	own := j.option(option)
	if p := get("sasl.oauth."+field, key); p != nil {
		own, _ = j.value(p)
	}
	return own
}

func (j *jaas) extension(o *OAuth, name, option string) {
	if o.Extensions == nil {
		o.Extensions = make(map[string]string)
	}
	o.Extensions[name] = j.option(option)
}

// truststoreOption reads which CAs may sign the certificate of the token endpoint.
func (j *jaas) truststoreOption(o *OAuth, prefix string) {
	o.CAFile = j.option(prefix + "location")
	j.ignore(prefix + "type") // detected
	if j.options[prefix+"password"] != "" {
		j.ignore(prefix + "password")
		j.bad(j.property, "has %spassword; milena reads the CA of the token endpoint as PEM: export it with keytool -exportcert -rfc, set %slocation to that file, and remove the password", prefix, prefix)
	}
}

func (j *jaas) needClient(o *OAuth, id, secret string) {
	if o.ClientID == "" || o.ClientSecret == "" && o.ClientSecretFile == "" {
		j.bad(j.property, "has no %s or no %s; add both", id, secret)
	}
}
