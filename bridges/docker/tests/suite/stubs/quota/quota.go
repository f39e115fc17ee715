// Package quota has as much of moby's package for project quotas as its graph drivers and their tests name. Debian
// leaves that one out. Here no file system has quotas for moby's own driver.
package quota

import "errors"

var ErrQuotaNotSupported = errors.New("quotas are not supported by this stub")

// Quota is the limit of one directory.
type Quota struct {
	Size uint64
}

// Control sets limits below one directory.
type Control struct{}

func NewControl(string) (*Control, error) { return nil, ErrQuotaNotSupported }

func (*Control) SetQuota(string, Quota) error { return ErrQuotaNotSupported }

func (*Control) GetQuota(string, *Quota) error { return ErrQuotaNotSupported }
