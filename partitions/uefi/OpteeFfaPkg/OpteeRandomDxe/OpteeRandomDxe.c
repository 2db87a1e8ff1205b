/** @file
  A service of OP-TEE's for the operating system, behind a run-time service that every operating system calls: GetVariable.

  The variable is created at each boot, volatile, so that it is listed; its value in the store is zeroes. Reading it comes
  here first, and every read asks OP-TEE. So is a second one, which says what these calls have met. All other variables go on to the
  variable driver.

  The session is opened at boot: the pseudo TA of random numbers keeps no state, so one session is all that is needed.
**/

#include <Uefi.h>

#include <Library/BaseLib.h>
#include <Library/BaseMemoryLib.h>
#include <Library/OpteeFfaStatistics.h>
#include <Library/OpteeLib.h>
#include <Library/UefiBootServicesTableLib.h>
#include <Library/UefiRuntimeLib.h>
#include <Library/UefiRuntimeServicesTableLib.h>

#include <Guid/EventGroup.h>

/// Bytes of a random number.
#define RANDOM_SIZE  32

#define ATTRIBUTES  (EFI_VARIABLE_BOOTSERVICE_ACCESS | EFI_VARIABLE_RUNTIME_ACCESS)

/// The pseudo TA's function: fill a buffer.
#define RANDOM_GET_ENTROPY  0

/// A variable that is answered here.
typedef struct {
  CHAR16    Name[24];
  UINTN     Size;
} ANSWERED_VARIABLE;

/// The one with the random number, as an index; the other has statistics.
#define RANDOM  0

STATIC CONST ANSWERED_VARIABLE  mVariables[] = {
  { L"OpteeRandom",           RANDOM_SIZE                   },
  { L"OpteeRandomStatistics", sizeof (OPTEE_FFA_STATISTICS) }
};

STATIC EFI_GET_VARIABLE  mGetVariable;
STATIC UINT32            mSession;

/**
  Gets random numbers from OP-TEE.

  @param[out] Buffer  RANDOM_SIZE bytes.

  @retval EFI_SUCCESS       They are there.
  @retval EFI_DEVICE_ERROR  OP-TEE did not give them.
**/
STATIC
EFI_STATUS
GetRandom (
  OUT VOID  *Buffer
  )
{
  OPTEE_INVOKE_FUNCTION_ARG  Call;

  ZeroMem (&Call, sizeof (Call));
  Call.Function                             = RANDOM_GET_ENTROPY;
  Call.Session                              = mSession;
  Call.Params[0].Attribute                  = OPTEE_MESSAGE_ATTRIBUTE_TYPE_MEMORY_INOUT;
  Call.Params[0].Union.Memory.BufferAddress = (UINTN)Buffer;
  Call.Params[0].Union.Memory.Size          = RANDOM_SIZE;
  if (EFI_ERROR (OpteeInvokeFunction (&Call)) || (Call.Return != OPTEE_SUCCESS) ||
      (Call.Params[0].Union.Memory.Size != RANDOM_SIZE))
  {
    return EFI_DEVICE_ERROR;
  }

  return EFI_SUCCESS;
}

/**
  GetVariable of UEFI's specification.

  @param[in]      Name        The variable.
  @param[in]      Vendor      Its vendor.
  @param[out]     Attributes  Its attributes.
  @param[in, out] Size        Room in Data; then the value's size.
  @param[out]     Data        The value.

  @return As the specification says.
**/
STATIC
EFI_STATUS
EFIAPI
GetVariable (
  IN     CHAR16    *Name,
  IN     EFI_GUID  *Vendor,
  OUT    UINT32    *Attributes OPTIONAL,
  IN OUT UINTN     *Size,
  OUT    VOID      *Data OPTIONAL
  )
{
  OPTEE_FFA_STATISTICS  Statistics;
  UINTN                 Index;
  UINTN                 Room;

  Index = ARRAY_SIZE (mVariables);
  if ((Name != NULL) && (Vendor != NULL) && (Size != NULL) && CompareGuid (Vendor, &gOpteeRandomVendorGuid)) {
    for (Index = 0; Index < ARRAY_SIZE (mVariables); Index++) {
      if (StrCmp (Name, mVariables[Index].Name) == 0) {
        break;
      }
    }
  }

  if (Index == ARRAY_SIZE (mVariables)) {
    return mGetVariable (Name, Vendor, Attributes, Size, Data);
  }

  if (Attributes != NULL) {
    *Attributes = ATTRIBUTES;
  }

  Room  = *Size;
  *Size = mVariables[Index].Size;
  if (Room < *Size) {
    return EFI_BUFFER_TOO_SMALL;
  }

  if (Data == NULL) {
    return EFI_INVALID_PARAMETER;
  }

  if (Index == RANDOM) {
    return GetRandom (Data);
  }

  OpteeFfaGetStatistics (&Statistics);
  CopyMem (Data, &Statistics, sizeof (Statistics));
  return EFI_SUCCESS;
}

/**
  Goes on with virtual addresses. The table of run-time services is converted by its owner.

  @param[in] Event    Not used.
  @param[in] Context  Not used.
**/
STATIC
VOID
EFIAPI
OnVirtualAddressChange (
  IN EFI_EVENT  Event,
  IN VOID       *Context
  )
{
  EfiConvertPointer (0, (VOID **)&mGetVariable);
}

/**
  Opens the session, makes the variables, and takes GetVariable's place.

  @param[in] ImageHandle  Not used.
  @param[in] SystemTable  Not used.

  @retval EFI_SUCCESS  The variables can be read.
  @return Otherwise why there is no OP-TEE with random numbers. There are no such variables then.
**/
EFI_STATUS
EFIAPI
OpteeRandomDxeInitialize (
  IN EFI_HANDLE        ImageHandle,
  IN EFI_SYSTEM_TABLE  *SystemTable
  )
{
  EFI_STATUS              Status;
  OPTEE_OPEN_SESSION_ARG  Open;
  UINT8                   Value[MAX (RANDOM_SIZE, sizeof (OPTEE_FFA_STATISTICS))];
  UINTN                   Index;
  EFI_EVENT               Event;

  Status = OpteeInit ();
  if (EFI_ERROR (Status)) {
    return Status;
  }

  ZeroMem (&Open, sizeof (Open));
  CopyGuid (&Open.Uuid, &gOpteeRandomPtaGuid);
  Status = OpteeOpenSession (&Open);
  if (!EFI_ERROR (Status) && (Open.Return != OPTEE_SUCCESS)) {
    Status = EFI_UNSUPPORTED;
  }

  if (EFI_ERROR (Status)) {
    return Status;
  }

  mSession = Open.Session;
  ZeroMem (Value, sizeof (Value));
  for (Index = 0; (Index < ARRAY_SIZE (mVariables)) && !EFI_ERROR (Status); Index++) {
    Status = gRT->SetVariable (
                    (CHAR16 *)mVariables[Index].Name,
                    &gOpteeRandomVendorGuid,
                    ATTRIBUTES,
                    mVariables[Index].Size,
                    Value
                    );
  }

  if (!EFI_ERROR (Status)) {
    Status = gBS->CreateEventEx (
                    EVT_NOTIFY_SIGNAL,
                    TPL_NOTIFY,
                    OnVirtualAddressChange,
                    NULL,
                    &gEfiEventVirtualAddressChangeGuid,
                    &Event
                    );
  }

  if (EFI_ERROR (Status)) {
    OpteeCloseSession (mSession);
    return Status;
  }

  mGetVariable     = gRT->GetVariable;
  gRT->GetVariable = GetVariable;
  gRT->Hdr.CRC32   = 0;
  gBS->CalculateCrc32 (&gRT->Hdr, gRT->Hdr.HeaderSize, &gRT->Hdr.CRC32);
  return EFI_SUCCESS;
}
