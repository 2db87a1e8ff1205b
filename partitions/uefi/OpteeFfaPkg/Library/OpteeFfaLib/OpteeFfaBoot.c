/** @file
  OpteeLib over FF-A for modules that end with boot services.
**/

#include "OpteeFfa.h"

#include <Library/UefiBootServicesTableLib.h>
#include <Library/UefiRuntimeServicesTableLib.h>

#include <Guid/EventGroup.h>

CONST EFI_MEMORY_TYPE  gOpteeFfaMemoryType = EfiBootServicesData;

/**
  The operating system gets this memory next: OP-TEE must not see it any more.

  @param[in] Event    Not used.
  @param[in] Context  Not used.
**/
STATIC
VOID
EFIAPI
OnExitBootServices (
  IN EFI_EVENT  Event,
  IN VOID       *Context
  )
{
  OpteeFfaReclaimMemory ();
}

EFI_STATUS
OpteeFfaRegisterEvent (
  OUT EFI_EVENT  *Event
  )
{
  return gBS->CreateEventEx (
                EVT_NOTIFY_SIGNAL,
                TPL_CALLBACK,
                OnExitBootServices,
                NULL,
                &gEfiEventExitBootServicesGuid,
                Event
                );
}

EFI_STATUS
OpteeFfaGetTime (
  OUT EFI_TIME  *Time
  )
{
  return gRT->GetTime (Time, NULL);
}
