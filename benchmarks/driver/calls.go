package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A call sends a request over one of the connections; gives an empty text if it succeeded, or else what became of it.
type call func(connection int, request []byte) string

func caller(kind, address, method string, headers map[string]string, connections int, timeout time.Duration) (call, error) {
	switch kind {
	case "grpc":
		return overGRPC(address, method, headers, connections, timeout)
	case "http":
		return overHTTP("http://"+address+method, headers, connections, timeout), nil
	}
	return nil, fmt.Errorf("there is no kind %q", kind)
}

// Raw hands bytes through.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return v.([]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *(v.(*[]byte)) = data; return nil }
func (raw) Name() string                       { return "proto" }

const largest = 64 << 20

func overGRPC(address, method string, headers map[string]string, connections int, timeout time.Duration) (call, error) {
	channels := make([]*grpc.ClientConn, connections)
	for i := range channels {
		channel, err := grpc.NewClient("passthrough:///"+address,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(largest), grpc.MaxCallSendMsgSize(largest)))
		if err != nil {
			return nil, err
		}
		channel.Connect()
		channels[i] = channel
	}
	base := metadata.NewOutgoingContext(context.Background(), metadata.New(headers))
	time.Sleep(200 * time.Millisecond) // The connections are made before the first call counts.
	return func(i int, request []byte) string {
		ctx, cancel := context.WithTimeout(base, timeout)
		defer cancel()
		var reply []byte
		if err := channels[i%connections].Invoke(ctx, method, request, &reply, grpc.WaitForReady(true)); err != nil {
			return status.Code(err).String() + ": " + status.Convert(err).Message()
		}
		return ""
	}, nil
}

func overHTTP(url string, headers map[string]string, connections int, timeout time.Duration) call {
	client := http.Client{Timeout: timeout, Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}}
	return func(_ int, body []byte) string {
		request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return err.Error()
		}
		request.Header.Set("Content-Type", "application/json")
		for name, value := range headers {
			request.Header.Set(name, value)
		}
		response, err := client.Do(request)
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		told, err := io.ReadAll(response.Body)
		if err != nil {
			return err.Error()
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Sprintf("%d: %.200s", response.StatusCode, told)
		}
		return ""
	}
}

func read(path string) ([][]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var requests [][]byte
	for len(content) > 0 {
		length, size := binary.Uvarint(content)
		if size <= 0 || uint64(len(content)-size) < length {
			return nil, errors.New(path + " is cut")
		}
		requests = append(requests, content[size:size+int(length)])
		content = content[size+int(length):]
	}
	if len(requests) == 0 {
		return nil, errors.New(path + " is empty")
	}
	return requests, nil
}

func readMetadata(path string) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var headers map[string]string
	return headers, json.Unmarshal(content, &headers)
}
