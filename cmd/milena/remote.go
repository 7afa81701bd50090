package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/milena-kafka/milena/replicator/control"
)

// tokenVariable is the environment variable with the token for --url.
const tokenVariable = "MILENA_TOKEN"

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 20

// addURL adds the flag that names a milena to ask.
func (c *controlFlags) addURL() {
	c.flags.StringVar(&c.url, "url", "", "ask the milena at this `URL`, such as http://127.0.0.1:9644, with the token of "+tokenVariable+", instead of -c FILE; needs --flow")
}

// checkURL checks the flags of a command that asks a milena.
func (c *controlFlags) checkURL() error {
	u, err := url.Parse(c.url)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return wrong(c.flags, "--url %q is not a URL such as http://127.0.0.1:9644", c.url)
	case *c.config != "":
		return wrong(c.flags, "--url and -c cannot be combined")
	case c.flow == "":
		return wrong(c.flags, "--url needs --flow NAME")
	}
	return nil
}

// apiPaths are the paths of the verbs below that of a flow.
func apiPaths() map[control.Verb]string {
	return map[control.Verb]string{
		control.Pause: "pause", control.Resume: "resume", control.Throttle: "throttle", control.Retry: "retry", control.Skip: "skip",
		control.RestartCopy: "restart-copy", control.Adopt: "groups/adopt", control.StopFlow: "stop", control.StartFlow: "start",
	}
}

// askToCarryOut lets a milena carry out the order of the flags.
func (p *program) askToCarryOut(ctx context.Context, c *controlFlags, verb control.Verb) (a answer, err error) {
	body, err := json.Marshal(c.order)
	if err != nil {
		return a, err
	}
	err = p.ask(ctx, c, http.MethodPost, apiPaths()[verb], body, &a)
	return a, err
}

// unanswered is the error of a request that got no answer, without the method and the path, which the user did not write.
func unanswered(address string, err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = failed.Err
	}
	return fmt.Errorf("%s does not answer: %w", address, err)
}

// ask sends a request about the flow to a milena, and reads its answer.
func (p *program) ask(ctx context.Context, c *controlFlags, method, path string, body []byte, into any) error {
	target := strings.TrimSuffix(c.url, "/") + "/api/v1/flows/" + url.PathEscape(c.flow) + "/" + path
	request, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	if token, ok := p.env(tokenVariable); ok && token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	asking := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }} // a token goes where it was sent
	response, err := asking.Do(request)
	if err != nil {
		return fmt.Errorf("%w; check that milena is running and that --url is the address of its http.listen", unanswered(c.url, err))
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return err
	}
	if response.StatusCode == http.StatusOK {
		return json.Unmarshal(data, into)
	}
	var failed apiError
	if json.Unmarshal(data, &failed) != nil || failed.Error == "" {
		failed.Error = strings.TrimSpace(fmt.Sprintf("%s answers %s: %.200s", c.url, response.Status, data))
	}
	switch response.StatusCode {
	case http.StatusBadRequest:
		return wrongOrder("%s", failed.Error)
	case http.StatusUnauthorized:
		return fmt.Errorf("%s; set the environment variable %s", failed.Error, tokenVariable)
	}
	return errors.New(failed.Error)
}
